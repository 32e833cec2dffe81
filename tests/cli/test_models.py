"""`overclock models` and `overclock pull`, short of fetching."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from overclock.cli import models, pull
from overclock.errors import SourceError
from overclock.model import cache
from overclock.model.source import ALIASES


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[cache.Record]:
    """A cache that holds an alias and one other model."""
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path))
    records = []
    for source in (str(ALIASES["minilm"]), "pypi:other==2"):
        with cache.staging(source) as folder:
            (folder / "m.gguf").write_bytes(bytes(1_500_000))
            path = folder / "m.gguf"
            records.append(cache.publish(folder, source, path, 1_500_000, "0" * 64))
    return records


def test_models_lists_aliases_and_what_is_here(fetched: list[cache.Record]) -> None:
    result = CliRunner().invoke(models.command)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:2] for row in rows] == [
        ["name", "size"],
        ["smollm2", "not fetched"],
        ["minilm", "1.5 MB"],
        ["pypi:other==2", "1.5 MB"],
    ]


def test_models_as_json(fetched: list[cache.Record]) -> None:
    listed = json.loads(CliRunner().invoke(models.command, ["--json"]).stdout)
    assert [(entry["name"], entry["cached"], entry["path"]) for entry in listed] == [
        ("smollm2", False, None),
        ("minilm", True, fetched[0].path),
        ("pypi:other==2", True, fetched[1].path),
    ]


def test_pull_of_what_is_here_says_where(fetched: list[cache.Record]) -> None:
    result = CliRunner().invoke(pull.command, ["minilm"])
    assert result.stdout == f"minilm\t1.5 MB\t{fetched[0].path}\n"
    answer = json.loads(CliRunner().invoke(pull.command, ["minilm", "--json"]).stdout)
    assert (answer["name"], answer["bytes"]) == ("minilm", 1_500_000)


def test_pull_of_a_path_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"1234")
    answer = CliRunner().invoke(pull.command, [str(tmp_path / "m.gguf"), "--json"]).stdout
    assert json.loads(answer)["bytes"] == 4


def test_pull_of_nonsense_raises_a_sentence() -> None:
    result = CliRunner().invoke(pull.command, ["nonsense"])
    assert isinstance(result.exception, SourceError)


def test_lines_about_a_transfer_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    with pull._lines() as progress:
        for done in range(0, 10_000_000, 100_000):
            progress("it", done, 10_000_000)
        progress("something else", 0, None)
    assert capsys.readouterr().err.splitlines() == ["it", "something else"]
