"""`overclock compare`: what it prints of two traces, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_main import call
from tests.trace.noisy_documents import Document, document, gaussian, ticks, write


def pair(folder: Path, **changes: object) -> tuple[str, str]:
    a = document(ticks(gaussian(1)))
    b: Document = document(ticks(gaussian(2), {6: 1.2}), **changes)
    return str(write(folder / "a.json", a)), str(write(folder / "b.json", b))


def test_what_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "compare", *pair(tmp_path))
    assert code == 0
    rows = {tuple(line.split("\t")[:2]): line.split("\t")[2:] for line in out.splitlines()}
    assert rows["tick", ""][-1] == "slower"
    assert rows["matmul", ""][-1] == "slower"
    assert rows["fetch", ""][-1] == "no difference"
    moved = rows["matmul 1", "1"]
    assert moved[-1] == "slower"
    assert float(moved[0]) == pytest.approx(60, rel=0.02)
    assert float(moved[2]) == pytest.approx(1.2, rel=0.02)
    assert [key for key, row in rows.items() if row[-1] == "slower" and key[1]] == [
        ("matmul 1", "1")
    ]
    assert "ticks that only generated, 1 row each: 64 of A, 64 of B" in err


def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "compare", *pair(tmp_path), "--json")
    assert code == 0
    found = json.loads(out)
    [part] = found["parts"]
    assert part["ticks"] == {"a": 64, "b": 64}
    first = part["instructions"][0]
    assert (first["name"], first["layer"], first["verdict"]) == ("matmul 1", 1, "slower")
    assert first["difference"]["low"] < 1.2 < first["difference"]["high"]
    assert first["q"] < 0.05
    assert len(part["instructions"]) == 15


def test_another_trace_of_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = pair(tmp_path)
    code, out, err = call(capsys, "compare", a, b, "--again", b)
    assert code == 0
    assert "slower" not in out, "B is then what A is"
    assert "both traces of A differ by" in err
    code, _, err = call(capsys, "compare", a, b, "--again", str(tmp_path / "nowhere"))
    assert code == 2
    assert "cannot be read" in err


def test_what_differs_stands_at_the_top(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = pair(tmp_path)
    other = json.loads(Path(b).read_text())
    other["machine"] |= {"threads": 1, "cpu": "y\x1b[2J"}
    other["instructions"][0]["text"] = "rmsnorm\x1b[2J new"
    code, _, err = call(capsys, "compare", a, str(write(tmp_path / "b.json", other)))
    assert code == 0
    lines = err.splitlines()
    assert lines[0].startswith("cpu differs")
    assert lines[1] == "threads differs: 2 in A, 1 in B"
    assert "1 instructions are only in B: rmsnorm" in err
    assert "\x1b" not in err


def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = pair(tmp_path)
    other = json.loads(Path(b).read_text())
    other["model"] |= {"name": "another", "fingerprint": "bb"}
    newer = json.loads(Path(b).read_text()) | {"version": 2}
    cut = tmp_path / "cut.json"
    cut.write_bytes(Path(b).read_bytes()[:-100])
    refused = {
        str(write(tmp_path / "other.json", other)): "different models",
        str(write(tmp_path / "newer.json", newer)): "version 2; this overclock reads 1",
        str(cut): "cut off",
        str(tmp_path / "nowhere.json"): "No such file",
    }
    for path, said in refused.items():
        code, out, err = call(capsys, "compare", a, path)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert said in err
