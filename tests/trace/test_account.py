"""The account of instructions against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.machine.limits import Figure, Limits
from overclock.trace.account import Account, account
from overclock.trace.record import TickRecord
from tests.trace import rig

INTEGERS = np.zeros(rig.COUNT, bool)
INTEGERS[1] = True


@dataclass
class Two:
    threads: int = 2


def costs(**parts: float) -> NDArray[np.float64]:
    """The same for every instruction, zero where nothing is said."""
    names = ("operations", "weights", "activations", "kv")
    return np.tile([parts.get(name, 0.0) for name in names], (rig.COUNT, 1))


def found(
    ticks: list[TickRecord], spent: NDArray[np.float64], limits: Limits | None = rig.LIMITS
) -> Account:
    each = [None if tick.detail is None else spent for tick in ticks]
    return account(rig.PROGRAM, ticks, each, INTEGERS, limits, Two())


def test_the_longer_of_memory_and_arithmetic_is_attainable() -> None:
    spent = costs(operations=2e8, weights=4e6, activations=1e6, kv=1e6)
    both = found([rig.tick(0.0, rig.counters())] * 2, spent)
    memory, f32, int8 = 6e6 / 20e9, 2e8 / 200e9, 2e8 / 800e9
    assert memory < f32
    assert int8 < memory
    first, second = both.instructions[:2]
    assert first.attainable_s == pytest.approx(2 * f32)
    assert first.bound == "arithmetic"
    assert first.share == pytest.approx(f32 / 1e-3)
    assert second.attainable_s == pytest.approx(2 * memory)
    assert second.bound == "memory"
    assert (first.runs, first.operations) == (2, 4e8)
    assert first.seconds == pytest.approx(2e-3)
    assert (first.weight_bytes, first.activation_bytes, first.kv_bytes) == (8e6, 2e6, 2e6)
    wanted = ((rig.COUNT - 1) * f32 + memory) / (rig.COUNT * 1e-3)
    assert both.limit_share == pytest.approx(wanted)


def test_bytes_are_held_against_what_their_size_allows() -> None:
    curve = {2: {1 << 20: Figure(80.0, 80, 80), 1 << 30: Figure(20.0, 20, 20)}}
    limits = replace(rig.LIMITS, read_curve=curve)
    few = found([rig.tick(0.0, rig.counters())], costs(weights=100.0), limits)
    many = found([rig.tick(0.0, rig.counters())], costs(weights=1e9), limits)
    assert few.instructions[0].attainable_s == pytest.approx(100.0 / 80e9)
    assert many.instructions[0].attainable_s == pytest.approx(1e9 / 20e9)


@pytest.mark.parametrize(
    ("seconds", "busy", "operations", "reason"),
    [
        (1e-3, 1e-3, 1.5e8, "arithmetic"),  # 0.75 ms of 1 ms
        (1e-3, 1e-3, 1e7, "kernel"),  # 0.05 ms of 1 ms
        (1e-5, 1e-5, 1e5, "latency"),  # 0.5 µs of 10 µs
        (1e-5, 1e-5, 1.8e6, "arithmetic"),  # small, but 9 µs of 10 µs
        (1e-3, 0.4e-3, 1.5e8, "waiting"),  # threads wait for 60 %
    ],
)
def test_what_the_time_went_to(seconds: float, busy: float, operations: float, reason: str) -> None:
    spent = np.full(rig.COUNT, seconds)
    threads = np.full((2, rig.COUNT), busy)
    tick = rig.tick(0.0, rig.counters(spent, threads))
    assert found([tick], costs(operations=operations)).instructions[0].reason == reason


def test_threads_wait_for_what_they_are_not_busy() -> None:
    busy = np.stack([np.full(rig.COUNT, 1e-3), np.full(rig.COUNT, 0.25e-3)])
    spent = found([rig.tick(0.0, rig.counters(busy=busy))] * 3, costs())
    assert spent.wait_s == pytest.approx(3 * rig.COUNT * 0.75e-3)
    assert spent.instructions[0].busy_s == pytest.approx(3 * 1.25e-3)


def test_a_machine_that_does_not_tell_waits_for_nobody() -> None:
    spent = found([rig.tick(0.0, rig.counters())], costs())
    assert spent.wait_s == 0.0
    assert spent.instructions[0].reason != "waiting"


def test_without_limits_nothing_is_held_against_them() -> None:
    spent = found([rig.tick(0.0, rig.counters())], costs(operations=1.0), None)
    each = spent.instructions[0]
    assert (each.attainable_s, each.share, each.bound, each.reason) == (None,) * 4
    assert spent.limit_share is None


def test_what_did_not_run_has_no_limit_and_what_failed_no_cost() -> None:
    seconds = np.full(rig.COUNT, 1e-3)
    seconds[3] = 0.0
    refused = rig.tick(0.0, rig.counters(np.zeros(rig.COUNT), runs=0))
    spent = found([rig.tick(0.0, rig.counters(seconds)), refused], costs(operations=5.0))
    assert spent.instructions[3].runs == 0
    assert spent.instructions[3].share is None
    assert spent.instructions[0].operations == 5.0


def test_ticks_without_detail_are_left_out() -> None:
    spent = found([rig.tick(0.0), rig.tick(1.0)], costs(operations=1.0))
    assert all(each.seconds == each.operations == 0.0 for each in spent.instructions)
    assert spent.limit_share is None


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6), st.floats(0.0, 1.0))
def test_totals_are_the_sums_of_the_ticks(lengths: list[float], share: float) -> None:
    ticks = []
    for each in lengths:
        seconds = np.linspace(each, 2 * each, rig.COUNT)
        ticks.append(rig.tick(0.0, rig.counters(seconds, np.stack([seconds, share * seconds]))))
    spent = found(ticks, costs(operations=1e6, weights=1e5))
    for index, one in enumerate(spent.instructions):
        wanted = sum(t.detail.counters.seconds[index] for t in ticks if t.detail is not None)
        assert one.seconds == pytest.approx(wanted)
        assert one.busy_s <= 2 * one.seconds * (1 + 1e-9)
    assert spent.wait_s == pytest.approx(
        sum(2 * one.seconds - one.busy_s for one in spent.instructions), abs=1e-9
    )
