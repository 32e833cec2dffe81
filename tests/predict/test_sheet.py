"""Data sheets: what is one is read, and anything else is refused in a sentence with its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.predict.sheet import MOST_BYTES, Sheet, read_sheet, scale_to, sheet_of
from overclock.program.cost import Cost
from tests.predict import rig

GOOD = {
    "cpu": "A server",
    "read_bandwidth_gbs": {"1": 12.0, "16": 200.0},
    "f32_gflops": {"1": 100.0, "16": 1500.0},
    "int8_gops": {"1": 400, "16": 6000},
}


def written(path: Path, record: object) -> Path:
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def test_the_most_threads_or_those_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "sheet.json", GOOD)
    assert read_sheet(path) == Sheet("A server", 16, 200.0, 1500.0, 6000.0)
    assert read_sheet(path, 5) == Sheet("A server", 1, 12.0, 100.0, 400.0)


def test_a_name_has_no_signs_that_steer_a_terminal(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", {**GOOD, "cpu": "A\x1b[31m\n\ud800server" + 200 * "x"})
    name = read_sheet(path).name
    assert name.startswith("A[31mserver")
    assert len(name) == 80
    bare = {key: value for key, value in GOOD.items() if key != "cpu"}
    assert read_sheet(written(tmp_path / "b.json", bare)).name == "b"


@pytest.mark.parametrize(
    "bad",
    [0, -1, 1e300, 1e-300, float("nan"), float("inf"), "fast", None, [], {}, 10**400],
    ids=str,
)
@pytest.mark.parametrize("name", ["read_bandwidth_gbs", "f32_gflops", "int8_gops"])
def test_a_limit_that_cannot_be(tmp_path: Path, name: str, bad: object) -> None:
    path = written(tmp_path / "sheet.json", {**GOOD, name: {"4": bad}})
    with pytest.raises(InputError, match=name) as caught:
        read_sheet(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "record",
    ["", "{", "[]", "3", "null", "[" * 100_000, "x" * (MOST_BYTES + 1), "{}", '{"cpu": 1}'],
    ids=lambda each: str(each)[:5],
)
def test_what_is_no_sheet(tmp_path: Path, record: str) -> None:
    path = written(tmp_path / "sheet.json", record)
    with pytest.raises(InputError) as caught:
        read_sheet(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("counts", [{"0": 1.0}, {"-2": 1.0}, {"many": 1.0}, 7.0, [7.0]])
def test_thread_counts_that_cannot_be(tmp_path: Path, counts: object) -> None:
    path = written(tmp_path / "sheet.json", {**GOOD, "f32_gflops": counts})
    with pytest.raises(InputError, match="f32_gflops"):
        read_sheet(path)


def test_too_few_threads_a_file_that_is_not_there_and_bytes(tmp_path: Path) -> None:
    path = written(tmp_path / "sheet.json", {**GOOD, "f32_gflops": {"8": 1.0}})
    with pytest.raises(InputError, match="2 threads"):
        read_sheet(path, 2)
    with pytest.raises(InputError, match=r"nothing\.json"):
        read_sheet(tmp_path / "nothing.json")
    with pytest.raises(InputError, match=str(tmp_path)):
        read_sheet(tmp_path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="JSON"):
        read_sheet(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD, "1"]), inner),
    )
)
def test_any_json_is_a_sheet_or_refused(tmp_path: Path, record: object) -> None:
    path = written(tmp_path / "sheet.json", json.dumps(record))
    try:
        sheet = read_sheet(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017 - both ends are right
    else:
        assert sheet.threads >= 1


limits = st.floats(1e-3, 1e6)


@given(limits, limits, limits)
def test_a_computer_compares_with_itself_as_one(read: float, f32: float, int8: float) -> None:
    sheet = Sheet("a", 1, read, f32, int8)
    same = scale_to(sheet, sheet)
    assert (same.memory, same.f32, same.int8) == (1.0, 1.0, 1.0)
    double = scale_to(Sheet("b", 1, read, f32, int8), Sheet("c", 1, read / 2, f32 / 4, int8 * 2))
    assert (double.memory, double.f32, double.int8) == pytest.approx((2.0, 4.0, 0.5))


def test_limits_and_their_sheet_say_the_same() -> None:
    sheet = sheet_of(rig.limits(), 2)
    assert sheet == Sheet("a computer", 2, 20.0, 200.0, 800.0)
    pace = sheet.roofline()
    assert pace(Cost(0, weight_bytes=20_000_000), False) == pytest.approx(1e-3)
    assert pace(Cost(800_000_000), True) == pytest.approx(1e-3)
    assert pace(Cost(200_000_000), False) == pytest.approx(1e-3)
