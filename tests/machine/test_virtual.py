from __future__ import annotations

import numpy as np
import pytest

from overclock.errors import InputError
from overclock.machine.machine import Batch
from overclock.machine.virtual import Roofline, VirtualMachine, load_of
from overclock.program.cost import Cost, total
from tests.machine import rig


def batch_of(lengths: tuple[int, ...], done: tuple[int, ...]) -> Batch:
    """New tokens of sequences that have `done` tokens each."""
    ends = [a + b for a, b in zip(lengths, done, strict=True)]
    sequences = rig.random_ids("qwen3", ends)
    return rig.decoder_batch(sequences, done, rig.page_table(ends), list(enumerate(lengths)))


def loaded(pace: Roofline) -> VirtualMachine:
    machine = VirtualMachine(pace)
    machine.load(rig.program("qwen3", rig.INT8), {}, pages=rig.PAGES)
    return machine


def test_roofline_takes_the_nearer_limit() -> None:
    pace = Roofline(100.0, 10.0, 40.0)
    assert pace(Cost(operations=20, weight_bytes=50, kv_bytes=50), integers=False) == 2.0
    assert pace(Cost(operations=20, weight_bytes=50, kv_bytes=50), integers=True) == 1.0
    assert Roofline(100.0, 10.0)(Cost(operations=20), integers=True) == 2.0


@pytest.mark.parametrize("limits", [(0.0, 1.0), (1.0, -1.0), (1.0, 1.0, float("nan"))])
def test_impossible_limits(limits: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="limit of"):
        Roofline(*limits)


def test_load_of_a_batch() -> None:
    load = load_of(batch_of((3, 1), (0, 9)))
    assert load.lengths == (3, 1)
    assert load.contexts == (0, 9)
    assert load.selected == 4


def test_a_machine_bound_by_bytes_takes_the_time_of_the_bytes() -> None:
    machine = loaded(Roofline(1e9, 1e30))
    batch = batch_of((1,), (20,))
    assert not machine.run(batch).any()
    bytes = total(rig.program("qwen3", rig.INT8), load_of(batch)).bytes
    assert machine.last_seconds == pytest.approx(bytes / 1e9)
    assert machine.counters().seconds.sum() == pytest.approx(machine.last_seconds)


def test_more_tokens_and_longer_contexts_take_longer() -> None:
    machine = loaded(Roofline(1e10, 1e11, 4e11))
    times = []
    for lengths, done in (((1,), (0,)), ((1,), (90,)), ((60,), (0,)), ((60, 60), (0, 0))):
        machine.run(batch_of(lengths, done))
        times.append(machine.last_seconds)
    assert times == sorted(times)
    assert len(set(times)) == 4
    counters = machine.counters()
    np.testing.assert_allclose(counters.seconds.sum(), sum(times))
    assert counters.runs == 4
