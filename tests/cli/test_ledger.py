"""`overclock ledger`: the table, the summary, and what is damaged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from overclock.trace.ledger import append
from tests.cli.test_main import call
from tests.trace.test_ledger import ONE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    append(ONE, path)
    append(dataclasses.replace(ONE, what="2 layers\x1b[2J fewer", measured=137.5), path)
    append(dataclasses.replace(ONE, quantity="memory MB", measured=None), path)
    return path


def test_the_error_of_every_prediction(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "ledger", "--file", str(path))
    assert (code, err) == (0, "")
    table, summary = out.strip().split("\n\n")
    assert [line.split("\t")[-2:] for line in table.splitlines()] == [
        ["measured", "error"],
        ["100", "+10.0%"],
        ["137.5", "-20.0%"],
        ["", ""],
    ]
    assert "\x1b" not in out
    lines = [line.split("\t") for line in summary.splitlines()]
    assert lines[1] == ["generation tokens/s", "2", "2", "15.0%", "-20.0%", "50%"]
    assert lines[2] == ["memory MB", "1", "0", "", "", ""]
    assert lines[3] == ["weights Q8_0", "2", "1", "10.0%", "+10.0%", "100%"]


def test_the_last_ones_with_the_summary_of_all(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "ledger", "--file", str(path), "--last", "1", "--json")
    found = json.loads(out)
    assert code == 0
    assert [each["quantity"] for each in found["predictions"]] == ["memory MB"]
    assert found["predictions"][0]["error"] is None
    assert found["summary"]["quantities"][0]["measured"] == 2
    assert found["damaged"] == []


def test_damage_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(path.read_bytes() + b"half a li")
    code, out, err = call(capsys, "ledger", "--file", str(path))
    assert code == 0
    assert len(out.splitlines()) == 10
    assert "line 4 is damaged and was left where it is: it is not JSON" in err


def test_nothing_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path))
    code, out, err = call(capsys, "ledger")
    assert (code, out) == (0, "")
    assert "nothing has been predicted yet" in err
    code, out, _ = call(capsys, "ledger", "--json")
    assert json.loads(out)["predictions"] == []
    assert code == 0


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "ledger", "--file", str(tmp_path / "nowhere"))
    assert code == 2
    assert "there is no file" in err
    code, _, err = call(capsys, "ledger", "--file", str(tmp_path))
    assert code == 2
    assert "cannot be read" in err
