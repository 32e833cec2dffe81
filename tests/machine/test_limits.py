"""The cache of measured limits, with a stand-in for the extension."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import overclock.machine
from overclock.cli.doctor import command
from overclock.errors import InputError
from overclock.machine import computer, limits
from overclock.machine.limits import Figure, Limits
from overclock.settings import cache_directory


@dataclass
class FakeNative:
    """Says what the extension would, and remembers what it was asked."""

    calls: list[tuple[str, int]] = field(default_factory=list)
    sets: list[str] = field(default_factory=lambda: ["avx2", "fma"])

    def probe_read_bandwidth(self, threads: int, size: int, seconds: float) -> float:
        assert size > 0
        assert seconds > 0
        self.calls.append(("read", threads))
        return 10.0 * threads

    def probe_peak_f32(self, threads: int, seconds: float) -> float:
        self.calls.append(("f32", threads))
        return 100.0 * threads

    def probe_peak_int8(self, threads: int, seconds: float) -> float:
        self.calls.append(("int8", threads))
        return 400.0 * threads + len(self.calls)

    def probe_timer(self) -> float:
        return 20.0

    def instruction_sets(self) -> list[str]:
        return self.sets


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNative:
    fake = FakeNative()
    monkeypatch.setattr(overclock.machine, "native", fake, raising=False)
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(limits, "usable_cores", lambda: 6)
    return fake


def cache_file() -> Path:
    return cache_directory() / "limits.json"


def test_every_thread_count_that_matters_is_measured_once_and_kept(native: FakeNative) -> None:
    first = limits.load_or_measure()
    assert sorted(first.read_bandwidth_gbs) == [1, 2, 4, 6]
    assert first.read_bandwidth_gbs[4] == Figure(40.0, 40.0, 40.0)
    assert not first.cached
    asked = len(native.calls)
    second = limits.load_or_measure()
    assert second == replace(first, cached=True)
    assert len(native.calls) == asked


def test_the_figure_is_the_median_with_its_spread(native: FakeNative) -> None:
    figure = limits.load_or_measure(1).int8_gops[1]
    assert figure.low < figure.median < figure.high
    assert figure.high - figure.low == limits.REPETITIONS - 1


def test_quick_asks_for_nothing_but_one_bandwidth(native: FakeNative) -> None:
    found = limits.load_or_measure(2, quick=True)
    assert native.calls == [("read", 2)]
    assert found.read_bandwidth_gbs.keys() == {2}
    assert found.f32_gflops == {}
    limits.load_or_measure(2, quick=True)
    assert native.calls == [("read", 2)]


def test_what_is_missing_is_added_to_the_cache(native: FakeNative) -> None:
    limits.load_or_measure(2, quick=True)
    limits.load_or_measure(1)
    found = limits.load_or_measure(1)
    assert found.read_bandwidth_gbs.keys() == {1, 2}
    assert found.int8_gops.keys() == {1}


def test_again_measures_anew(native: FakeNative) -> None:
    limits.load_or_measure(1)
    asked = len(native.calls)
    assert not limits.load_or_measure(1, again=True).cached
    assert len(native.calls) == 2 * asked


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", '{"cpu": 1}', "\x00\x01", '{"cpu":"a","cores":"many"}'],
)
def test_a_damaged_cache_is_measured_again(native: FakeNative, damage: str) -> None:
    limits.load_or_measure(1)
    cache_file().write_text(damage)
    assert not limits.load_or_measure(1).cached
    assert limits.load_or_measure(1).cached


def test_figures_of_the_wrong_type_are_damage(native: FakeNative) -> None:
    limits.load_or_measure(1)
    record = json.loads(cache_file().read_text())
    record["f32_gflops"] = {"1": {"median": "fast", "low": 0, "high": 0}}
    cache_file().write_text(json.dumps(record))
    assert not limits.load_or_measure(1).cached


@given(text=st.text())
def test_no_text_in_the_cache_raises_anything_else(text: str) -> None:
    try:
        limits._parse(json.loads(text))
    except (ValueError, TypeError, KeyError):
        return
    pytest.fail("text became figures")


def test_another_processor_is_measured_again(
    native: FakeNative, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits.load_or_measure(1)
    monkeypatch.setattr(computer, "cpu_name", lambda: "another processor")
    assert not limits.load_or_measure(1).cached
    native.sets = ["avx2"]
    assert not limits.load_or_measure(1).cached


def test_a_cache_that_cannot_be_written_is_no_error(
    native: FakeNative, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "file"))
    assert limits.load_or_measure(1).read_bandwidth_gbs[1].median == 10.0


def test_nothing_is_left_half_written(native: FakeNative, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    limits.load_or_measure(1)
    assert list(cache_directory().iterdir()) == []


def test_threads_below_one_are_refused(native: FakeNative) -> None:
    with pytest.raises(InputError, match="at least 1"):
        limits.load_or_measure(0)


def test_the_limit_for_threads_between_two_measured_counts() -> None:
    known = Limits(
        cpu="c",
        cores=4,
        instruction_sets=(),
        measured="2025-01-01T00:00:00+00:00",
        version="0",
        timer_ns=1.0,
        read_bandwidth_gbs={2: Figure(20.0, 19.0, 21.0), 4: Figure(30.0, 29.0, 31.0)},
    )
    assert known.limit("read_bandwidth_gbs", 3) == 20.0
    assert known.limit("read_bandwidth_gbs", 9) == 30.0
    with pytest.raises(InputError, match="overclock doctor"):
        known.limit("read_bandwidth_gbs", 1)


def test_doctor_json_is_keyed_by_thread_count(native: FakeNative) -> None:
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["read_bandwidth_gbs"] == {"1": 10.0, "2": 20.0, "4": 40.0, "6": 60.0}
    assert record["f32_gflops"]["6"] == 600.0
    assert record["int8_gops"].keys() == {"1", "2", "4", "6"}
    assert record["cached"] is False
    assert record["memory_bytes"] > 0


def test_doctor_table_says_that_figures_are_cached(native: FakeNative) -> None:
    assert "cached" not in CliRunner().invoke(command, ["--threads", "1"]).output
    output = CliRunner().invoke(command, ["--threads", "1"]).output
    assert "cached, measured 20" in output
    assert "10.0 ±0%" in output


def curved(curve: dict[int, float]) -> Limits:
    return Limits(
        cpu="c",
        cores=1,
        instruction_sets=(),
        measured="2025-01-01T00:00:00+00:00",
        version="0",
        timer_ns=1.0,
        read_bandwidth_gbs={1: Figure(8.0, 8.0, 8.0)},
        read_curve={1: {size: Figure(gbs, gbs, gbs) for size, gbs in curve.items()}},
    )


def test_bandwidth_between_two_sizes_goes_by_logarithms() -> None:
    known = curved({1 << 10: 80.0, 1 << 20: 20.0})
    assert known.bandwidth(1 << 10, 1) == pytest.approx(80.0)
    assert known.bandwidth(1 << 15, 1) == pytest.approx(40.0)
    assert known.bandwidth(1 << 20, 4) == pytest.approx(20.0)
    assert known.bandwidth(0, 1) == 80.0
    assert known.bandwidth(1 << 40, 1) == 20.0
    assert replace(known, read_curve={}).bandwidth(1 << 15, 1) == 8.0
    with pytest.raises(InputError, match="overclock doctor"):
        replace(known, read_curve={}, read_bandwidth_gbs={}).bandwidth(1, 1)


@given(
    st.dictionaries(st.integers(1, 1 << 40), st.floats(0.1, 1e4), min_size=1, max_size=6),
    st.floats(0, 1e13),
    st.floats(0, 1e13),
)
def test_more_bytes_are_never_read_at_a_higher_pace(
    curve: dict[int, float], size: float, more: float
) -> None:
    known = curved(curve)
    low, high = known.bandwidth(size + more, 1), known.bandwidth(size, 1)
    assert low <= high * (1 + 1e-9)
    assert min(curve.values()) * (1 - 1e-9) <= low <= max(curve.values()) * (1 + 1e-9)


@pytest.mark.parametrize("bad", [0, -1.0, "nan", "inf"])
def test_a_pace_that_cannot_be_is_damage(native: FakeNative, bad: object) -> None:
    limits.load_or_measure(1)
    for path in (("read_curve", "1"), ("int8_gops",)):
        record = json.loads(cache_file().read_text())
        inner = record
        for key in path:
            inner = inner[key]
        first = next(iter(inner))
        inner[first] = {**inner[first], "median": bad}
        cache_file().write_text(json.dumps(record))
        assert not limits.load_or_measure(1).cached
    record["read_curve"] = {"1": {}}
    cache_file().write_text(json.dumps(record))
    assert not limits.load_or_measure(1).cached


def test_levels_are_the_caches_and_memory(
    native: FakeNative, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = limits.load_or_measure(2).levels(2)
    assert found[-1].name == "memory"
    assert [level.gbs for level in found] == pytest.approx([20.0] * len(found))
    assert [level.bytes for level in found] == sorted(level.bytes for level in found)
    assert limits.load_or_measure(2).levels(1) == ()
