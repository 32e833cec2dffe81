"""What the environment sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from overclock.settings import cache_directory


def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OVERCLOCK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == tmp_path / "home" / ".cache" / "overclock"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_directory() == tmp_path / "home" / ".cache" / "overclock"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "overclock"
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"


def test_a_relative_cache_folder_is_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVERCLOCK_CACHE", "here")
    assert cache_directory() == tmp_path / "here"
