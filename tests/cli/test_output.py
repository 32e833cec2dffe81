"""Files whole or not at all, JSON that every reader takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overclock import files
from overclock.cli import output


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": "ü", 4: (1, None)})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": None, "b": [None, 1.5], "c": "ü", "4": [1, None]}
    assert "ü" in out


def test_a_table_has_tabs_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a", "b"), [("1", "2")], title="not shown")
    assert capsys.readouterr().out == "a\tb\n1\t2\n"


def test_writing_fails_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.undo()
    files.write_atomic(file, b"new")
    assert file.read_bytes() == b"new"
