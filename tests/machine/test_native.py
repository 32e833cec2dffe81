"""The native machine against the reference machine, and its promise of identical bits."""

from __future__ import annotations

import importlib
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overclock.machine.machine import KvFormat
from tests.machine import rig

pytest.importorskip("overclock._native")
TIERS = importlib.import_module("overclock.machine.native").tiers()

KV: tuple[KvFormat, ...] = ("f32", "f16", "i8")
NEAR = 1e-4
"""Of the logits' spread: what the order of f32 sums may change."""

KV_ALIKE = {"f16": 1e-3, "i8": 5e-3}
"""The same behind the rounding of K and V; two reference machines whose sums differ in the last
bit are apart by up to 2e-4 and 2e-3."""

DEFAULT_ALIKE = 2e-2
"""The same behind the rounding of activations to int8, where they are apart by up to 8e-3 (and
by 2e-2 in `all-types`, whose attention is sharp)."""


def expected_sequences(name: str) -> list[rig.IntArray]:
    wanted = rig.expected(name)
    return [wanted[f"ids_{i}"].astype(np.int32) for i in range(2)]


def both(
    name: str, mode: rig.Mode, kv: KvFormat, tier: str
) -> tuple[list[rig.Array], list[rig.Array]]:
    """The logits of two sequences from the native and from the reference machine."""
    sequences = expected_sequences(name)
    machines = rig.native(name, mode, kv, tier=tier), rig.reference(name, mode, kv)
    return rig.feed(machines[0], sequences), rig.feed(machines[1], sequences)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("mode", [rig.PLAIN, rig.EXACT, rig.EXACT_INT8], ids=str)
@pytest.mark.parametrize("name", rig.DECODERS)
def test_exact_decoders_agree(name: str, mode: rig.Mode, tier: str) -> None:
    for ours, theirs in zip(*both(name, mode, "f32", tier), strict=True):
        rig.assert_near(ours, theirs, NEAR)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kv", KV_ALIKE)
@pytest.mark.parametrize("name", rig.DECODERS)
def test_exact_decoders_agree_on_rounded_kv(name: str, kv: KvFormat, tier: str) -> None:
    for ours, theirs in zip(*both(name, rig.EXACT, kv, tier), strict=True):
        rig.assert_alike(ours, theirs, KV_ALIKE[kv])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("mode", [rig.DEFAULT, rig.INT8], ids=str)
@pytest.mark.parametrize("name", rig.DECODERS)
def test_default_decoders_agree(name: str, mode: rig.Mode, tier: str) -> None:
    share = DEFAULT_ALIKE * (2.5 if name == "all-types" else 1)
    for ours, theirs in zip(*both(name, mode, "f32", tier), strict=True):
        rig.assert_alike(ours, theirs, share)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("mode", [rig.PLAIN, rig.EXACT, rig.DEFAULT, rig.INT8], ids=str)
@pytest.mark.parametrize("name", rig.ENCODERS)
def test_encoders_agree(name: str, mode: rig.Mode, tier: str) -> None:
    sequences = expected_sequences(name)
    types = [rig.expected(name)[f"types_{i}"].astype(np.int32) for i in range(2)]
    for output in rig.program(name, mode).outputs:
        batch = rig.encoder_batch(sequences, output, types)
        ours = rig.native(name, mode, tier=tier).run(batch)
        theirs = rig.reference(name, mode).run(batch)
        if mode is rig.INT8:
            rig.assert_alike(ours, theirs, DEFAULT_ALIKE)
        else:
            rig.assert_near(ours, theirs, NEAR)


lengths = st.lists(st.integers(1, 100), min_size=1, max_size=4)
threads = st.sampled_from((1, 2, 3))
patient = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
)


@pytest.mark.parametrize(
    ("name", "mode", "kv", "tier"),
    [
        *product(["all-types", "gemma3"], [rig.EXACT, rig.DEFAULT], KV, [None]),
        *product(["qwen3", "llama3"], [rig.INT8], KV, [None]),
        *product(["all-types"], [rig.EXACT, rig.DEFAULT], ["f16"], TIERS),
        *product(["qwen2"], [rig.INT8], ["i8"], TIERS),
        ("llama", rig.EXACT, "f16", None),
    ],
    ids=str,
)
@patient
@given(data=st.data())
def test_pieces_company_threads_and_pages_change_no_bit(
    name: str, mode: rig.Mode, kv: KvFormat, tier: str | None, data: st.DataObject
) -> None:
    sequences = rig.random_ids(name, data.draw(lengths))
    ticks = data.draw(rig.schedules([len(ids) for ids in sequences]))
    machine = rig.native(name, mode, kv, data.draw(threads), tier)
    together = rig.feed(machine, sequences, ticks, data.draw(rig.page_orders))
    alone = rig.native(name, mode, kv, 1, tier)
    for ids, logits in zip(sequences, together, strict=True):
        np.testing.assert_array_equal(logits, rig.feed(alone, [ids])[0])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("mode", [rig.EXACT, rig.INT8], ids=str)
@pytest.mark.parametrize("name", ["bert", "bert-mean", "roberta-token", "distilbert-sequence"])
@patient
@given(sizes=st.lists(st.integers(1, 64), min_size=1, max_size=5), count=threads)
def test_company_and_threads_change_no_bit_of_an_encoder(
    name: str, mode: rig.Mode, tier: str, sizes: list[int], count: int
) -> None:
    sequences = rig.random_ids(name, sizes)
    together, alone = (rig.native(name, mode, threads=n, tier=tier) for n in (count, 1))
    for output in rig.program(name, mode).outputs:
        values = together.run(rig.encoder_batch(sequences, output))
        singly = [alone.run(rig.encoder_batch([ids], output)) for ids in sequences]
        np.testing.assert_array_equal(values, np.concatenate(singly))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["llama", "all-types", "bert-mean"])
def test_counters_add_up(name: str, threads: int) -> None:
    machine = importlib.import_module("overclock.machine.native").NativeMachine(threads)
    machine.watch(True)  # before there is a program to watch
    program = rig.program(name, rig.DEFAULT)
    for _ in range(2):  # the second program has a machine of its own, watched as well
        machine.load(program, rig.model(name).weights, pages=rig.PAGES)
        machine.counters()
        sequences = rig.random_ids(name, (40, 3))
        if program.caches:
            rig.feed(machine, sequences)
        else:
            machine.run(rig.encoder_batch(sequences, "embedding"))
        found = machine.counters()
        assert found.runs == 1
        parts = found.prepare + found.turn + float(found.seconds.sum()) + found.finish
        assert parts == pytest.approx(found.whole, rel=1e-9)
        assert found.call > 0
        assert found.busy is not None
        assert found.busy.shape == (threads, len(program.instructions))
        assert (found.busy.sum(axis=1) <= found.whole).all()
        ran = np.flatnonzero(found.seconds)
        output = next(iter(program.outputs)) if program.caches else "embedding"
        assert set(ran.tolist()) <= set(program.needed_for(output))
        assert found.busy.sum() > 0
    empty = machine.counters()
    assert (empty.runs, empty.whole, empty.call) == (0, 0.0, 0.0)
    assert not empty.seconds.any()
    machine.watch(False)
    assert machine.counters().busy is None


def test_a_thread_without_work_takes_no_time() -> None:
    machine = importlib.import_module("overclock.machine.native").NativeMachine(2)
    machine.load(rig.program("llama", rig.DEFAULT), rig.model("llama").weights, pages=rig.PAGES)
    machine.watch(True)
    for _ in range(200):  # it may be done before the other one has noted when the step began
        rig.feed(machine, rig.random_ids("llama", (1,)))
        found = machine.counters()
        assert found.busy is not None
        assert (found.busy <= found.whole).all()
