"""The ledger: nothing is lost, whoever writes at once, and the errors are those of a calculator."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.trace import ledger
from overclock.trace.ledger import Damage, Prediction, append, read, records
from tests.cli.commands import environment

ONE = Prediction(
    when="2025-03-01T12:00:00+00:00",
    overclock="0.1",
    cpu="some processor",
    threads=2,
    model="smollm2",
    what="weights Q8_0",
    quantity="generation tokens/s",
    predicted=110.0,
    low=100.0,
    high=125.0,
    measured=100.0,
)


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "ledger.jsonl"
    assert read(path).predictions == ()
    entries = [ONE, dataclasses.replace(ONE, measured=None, note="nobody looked: ü \n…")]
    for each in entries:
        append(each, path)
    assert read(path) == ledger.Ledger(tuple(entries), ())
    assert len(path.read_text().splitlines()) == 2


def test_it_is_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path))
    append(ONE)
    assert (tmp_path / "ledger.jsonl").exists()
    assert read().predictions == (ONE,)


FINITE = st.floats(-1e300, 1e300)


@given(st.text(max_size=20), st.lists(FINITE, min_size=3, max_size=3), st.none() | FINITE)
def test_any_prediction_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    numbers: list[float],
    measured: float | None,
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "one.jsonl"
    low, predicted, high = sorted(numbers)
    one = dataclasses.replace(
        ONE, what=text, note=text, low=low, predicted=predicted, high=high, measured=measured
    )
    append(one, path)
    assert read(path).predictions == (one,)


@pytest.mark.parametrize(
    "change",
    [
        {"predicted": float("nan")},
        {"high": float("inf")},
        {"low": 111.0},
        {"high": 109.0},
        {"threads": 0},
        {"when": "yesterday"},
        {"what": "\ud800"},
        {"measured": "fast"},
    ],
    ids=str,
)
def test_what_has_no_sense_is_not_written(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with pytest.raises(InputError, match="cannot go into a ledger"):
        append(dataclasses.replace(ONE, **change), path)  # type: ignore[arg-type]
    assert not path.exists()


WRITER = """
import dataclasses, sys
from pathlib import Path
from overclock.trace.ledger import append
from tests.trace.test_ledger import ONE
path, writer = sys.argv[1:]
for number in range(50):
    append(dataclasses.replace(ONE, note=f"{writer} {number} " + "x" * 9000), Path(path))
"""


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    env = environment() | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path.cwd())])}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], env=env)
        for number in range(4)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 4
    found = read(path)
    assert found.damaged == ()
    notes = [each.note.split(" ")[:2] for each in found.predictions]
    for writer in range(4):
        mine = [int(number) for who, number in notes if who == str(writer)]
        assert mine == list(range(50))


def test_damaged_lines_are_told_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    good = json.dumps(dataclasses.asdict(ONE))
    missing = json.dumps({"when": ONE.when})
    lines = [good, "", "{", "[]", missing, good.replace("110.0", "NaN"), "[" * 99_999, good]
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n" + good.encode() + b"\n")
    before = path.read_bytes()
    found = read(path)
    assert len(found.predictions) == 3
    assert found.damaged == (
        Damage(3, "it is not JSON"),
        Damage(4, "it is no object"),
        Damage(5, "overclock is missing"),
        Damage(6, "predicted is no number"),
        Damage(7, "it is not JSON"),
        Damage(9, "it is not JSON"),
    )
    append(ONE, path)
    assert path.read_bytes().startswith(before)


def test_half_a_line_of_somebody_who_died_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(ONE, path)
    path.write_bytes(path.read_bytes() + b'{"when": "2025')
    append(ONE, path)
    found = read(path)
    assert found.predictions == (ONE, ONE)
    assert [each.line for each in found.damaged] == [2]


def test_fields_of_a_later_version_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(ONE) | {"new": [1]}))
    assert read(path).predictions == (ONE,)


def test_a_full_disk_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    append(ONE, path)
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    with pytest.raises(InputError, match="the disk is full"):
        append(ONE, path)
    monkeypatch.undo()
    assert path.read_bytes() == before


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        append(ONE, tmp_path)


def test_errors_by_hand() -> None:
    assert ONE.error == pytest.approx(0.1)
    assert ONE.is_inside is True
    low = dataclasses.replace(ONE, measured=137.5)
    assert low.error == pytest.approx(-0.2)
    assert low.is_inside is False
    unknown = dataclasses.replace(ONE, measured=None)
    assert (unknown.error, unknown.is_inside) == (None, None)
    assert dataclasses.replace(ONE, measured=0.0).error is None


def test_how_good_they_were() -> None:
    measured = [100.0, 137.5, 110.0, None]  # off by +10 %, -20 % and nothing
    group = [dataclasses.replace(ONE, measured=each) for each in measured]
    other = dataclasses.replace(ONE, quantity="memory", measured=None)
    first, second = records([*group, other], lambda each: each.quantity)
    assert (first.name, first.count, first.measured) == ("generation tokens/s", 4, 3)
    assert first.error == pytest.approx(0.1)
    assert first.worst == pytest.approx(-0.2)
    assert first.inside == pytest.approx(2 / 3)
    assert (second.name, second.count, second.measured) == ("memory", 1, 0)
    assert (second.error, second.worst, second.inside) == (None, None, None)
    assert [each.name for each in records(group, lambda each: each.what)] == ["weights Q8_0"]
