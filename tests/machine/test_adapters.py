"""Adapters on every machine: what merged weights would give, for each sequence its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overclock.errors import MachineError
from overclock.machine.machine import Batch, Machine
from overclock.machine.reference import ReferenceMachine
from overclock.machine.virtual import Roofline, VirtualMachine
from overclock.model.adapter import Adapter, load_adapter
from overclock.program.compiler import compile
from overclock.program.cost import Load, total
from overclock.program.program import Program
from tests import adapters
from tests.machine import rig

NEAR = 1e-4
"""Of the logits' spread: what the order of f32 sums may change."""

KINDS = ("reference", "virtual", "native")


@cache
def two(name: str) -> tuple[Adapter, ...]:
    """One of q and v, and one of everything, of ranks that fill no vector."""
    model = rig.model(name)
    return (
        adapters.adapter(model, ("attn_q", "attn_v"), rank=8, seed=1),
        adapters.adapter(model, rank=5, seed=2),
    )


@cache
def program(name: str, mode: rig.Mode) -> Program:
    """A fixture's program, compiled for all matrices that adapters may change."""
    sites = adapters.adapter(rig.model(name)).sites
    return compile(rig.model(name), exact=mode.exact, passes=mode.passes, adapters=sites)


def made(kind: str, threads: int = 2, tier: str | None = None) -> Machine:
    if kind == "native":
        pytest.importorskip("overclock._native")
        from overclock.machine.native import NativeMachine

        return NativeMachine(threads, kv="f32", tier=tier)
    if kind == "reference":
        return ReferenceMachine(kv="f32")
    return VirtualMachine(Roofline(1e10, 1e11), kv="f32")


@cache
def loaded(kind: str, name: str, mode: rig.Mode, threads: int = 2) -> Machine:
    """A machine with a fixture and both its adapters."""
    machine = made(kind, threads)
    machine.load(program(name, mode), rig.model(name).weights, pages=rig.PAGES)
    machine.set_adapters(two(name))
    return machine


def batch_of(
    sequences: Sequence[rig.IntArray], numbers: Sequence[int] | None, encoder: str = ""
) -> Batch:
    """Whole sequences, each with the adapter of its number."""
    if encoder:
        batch = rig.encoder_batch(sequences, encoder)
    else:
        lengths = [len(ids) for ids in sequences]
        whole = list(enumerate(lengths))
        table = rig.page_table(lengths)
        batch = rig.decoder_batch(sequences, [0] * len(sequences), table, whole)
    return replace(batch, adapters=None if numbers is None else np.array(numbers, np.int32))


def apart(values: rig.Array, sequences: Sequence[rig.IntArray]) -> list[rig.Array]:
    return np.split(values, np.cumsum([len(ids) for ids in sequences])[:-1])


# -- what it means ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reference", "native"])
@pytest.mark.parametrize("mode", [rig.PLAIN, rig.EXACT], ids=str)
@pytest.mark.parametrize("name", rig.DECODERS)
def test_an_adapter_gives_what_merged_weights_give(name: str, mode: rig.Mode, kind: str) -> None:
    model, sequences = rig.model(name), rig.random_ids(name, (40, 7, 20))
    values = loaded(kind, name, mode).run(batch_of(sequences, (1, 0, 2)))
    base, first, second = model, *(adapters.merged(model, each) for each in two(name))
    for ids, logits, each in zip(
        sequences, apart(values, sequences), (first, base, second), strict=True
    ):
        plain = ReferenceMachine(kv="f32")
        plain.load(compile(each, exact=True, passes=()), each.weights, pages=rig.PAGES)
        rig.assert_near(logits, plain.run(batch_of([ids], None)), NEAR)
        if each is not base:
            unchanged = ReferenceMachine(kv="f32")
            unchanged.load(rig.program(name, rig.PLAIN), model.weights, pages=rig.PAGES)
            difference = logits - unchanged.run(batch_of([ids], None))
            assert rig.spread(difference) > 0.05 * rig.spread(logits)


@pytest.mark.parametrize("kind", ["reference", "native"])
@pytest.mark.parametrize("mode", [rig.PLAIN, rig.EXACT], ids=str)
@pytest.mark.parametrize("name", ["bert", "bert-sequence", "distilbert-sequence"])
def test_an_encoders_adapter_gives_what_merged_weights_give(
    name: str, mode: rig.Mode, kind: str
) -> None:
    model, sequences = rig.model(name), rig.random_ids(name, (20, 7))
    each = adapters.merged(model, two(name)[1])
    plain = ReferenceMachine()
    plain.load(compile(each, exact=True, passes=()), each.weights, pages=0)
    for output in program(name, mode).outputs:
        values = loaded(kind, name, mode).run(batch_of(sequences, (2, 2), output))
        rig.assert_near(values, plain.run(batch_of(sequences, None, output)), NEAR)


@pytest.mark.parametrize("kind", ["reference", "native"])
@pytest.mark.parametrize("name", ["llama", "llama-gguf"])
def test_an_adapter_gives_what_peft_gives(name: str, kind: str) -> None:
    model, expected = rig.model(name), rig.expected("llama")
    adapter = load_adapter(rig.FIXTURES / "llama-lora", model)
    machine = made(kind)
    machine.load(compile(model, exact=True, adapters=adapter.sites), model.weights, pages=rig.PAGES)
    machine.set_adapters([adapter])
    sequences = [expected[f"ids_{i}"].astype(np.int32) for i in range(2)]
    wanted = rig.expected("llama-lora")
    values = apart(machine.run(batch_of(sequences, (1, 1))), sequences)
    for index, logits in enumerate(values):
        rig.assert_near(logits, wanted[f"logits_{index}"], NEAR)
    without = apart(machine.run(batch_of(sequences, None)), sequences)
    for index, logits in enumerate(without):
        rig.assert_near(logits, expected[f"logits_{index}"], NEAR)


@pytest.mark.parametrize("name", ["llama", "gemma3", "all-types"])
def test_default_mode_agrees(name: str) -> None:
    sequences = rig.random_ids(name, (40, 7, 20))
    batch = batch_of(sequences, (1, 0, 2))
    ours = loaded("native", name, rig.DEFAULT).run(batch)
    rig.assert_alike(ours, loaded("reference", name, rig.DEFAULT).run(batch), 5e-2)


@pytest.mark.parametrize("name", ["llama", "qwen2", "bert"])
def test_every_tier_agrees(name: str) -> None:
    native = pytest.importorskip("overclock.machine.native")
    sequences, output = rig.random_ids(name, (40, 7, 20)), "hidden" if name == "bert" else ""
    batch = batch_of(sequences, (1, 0, 2), output)
    wanted = loaded("reference", name, rig.EXACT).run(batch)
    for tier in native.tiers():
        machine = made("native", tier=tier)
        machine.load(program(name, rig.EXACT), rig.model(name).weights, pages=rig.PAGES)
        machine.set_adapters(two(name))
        rig.assert_near(machine.run(batch), wanted, NEAR)


# -- who is beside it changes nothing ---------------------------------------------------------


@pytest.mark.parametrize("mode", [rig.PLAIN, rig.EXACT, rig.DEFAULT], ids=str)
@pytest.mark.parametrize("name", ["llama", "gemma3", "all-types"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_company_pieces_and_threads_change_no_bit(
    name: str, mode: rig.Mode, data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=5))
    numbers = [data.draw(st.integers(0, 2)) for _ in lengths]
    sequences = rig.random_ids(name, lengths)
    machine = loaded("native", name, mode, data.draw(st.sampled_from((1, 2, 3))))
    table, done = rig.page_table(lengths), [0] * len(lengths)
    pieces: list[list[rig.Array]] = [[] for _ in lengths]
    for tick in data.draw(rig.schedules(lengths)):
        batch = rig.decoder_batch(sequences, done, table, tick)
        chosen = np.array([numbers[index] for index, _ in tick], np.int32)
        logits = machine.run(replace(batch, adapters=chosen))
        for index, count in tick:
            pieces[index].append(logits[:count])
            logits, done[index] = logits[count:], done[index] + count
    alone = loaded("native", name, mode, 1)
    for ids, number, parts in zip(sequences, numbers, pieces, strict=True):
        wanted = alone.run(batch_of([ids], [number] if number else None))
        np.testing.assert_array_equal(np.concatenate(parts), wanted)


@pytest.mark.parametrize("mode", [rig.EXACT, rig.DEFAULT], ids=str)
@pytest.mark.parametrize("parts", [("attn_q", "attn_v"), ("attn_output", "ffn_down")])
def test_a_program_for_adapters_says_the_same_without_one(
    mode: rig.Mode, parts: tuple[str, ...]
) -> None:
    name = "llama-gguf"
    adapter = adapters.adapter(rig.model(name), parts)
    machine = made("native")
    sites = adapter.sites
    machine.load(
        compile(rig.model(name), exact=mode.exact, adapters=sites),
        rig.model(name).weights,
        pages=rig.PAGES,
    )
    machine.set_adapters([adapter])
    sequences = rig.random_ids(name, (40, 7))
    plain = made("native")
    plain.load(rig.program(name, mode), rig.model(name).weights, pages=rig.PAGES)
    wanted = plain.run(batch_of(sequences, None))
    np.testing.assert_array_equal(machine.run(batch_of(sequences, None)), wanted)
    np.testing.assert_array_equal(machine.run(batch_of(sequences, (0, 1)))[:40], wanted[:40])


def test_selected_rows_have_the_adapter_of_their_sequence() -> None:
    sequences = rig.random_ids("llama", (9, 4, 3))
    for kind in ("reference", "native"):
        machine = loaded(kind, "llama", rig.EXACT)
        batch = batch_of(sequences, (2, 0, 1))
        rows = np.array([15, 3, 10, 3, 9, 14], np.int32)
        few = machine.run(replace(batch, output_rows=rows))
        np.testing.assert_allclose(few, machine.run(batch)[rows], atol=1e-5)


# -- setting them -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reference", "native"])
def test_adapters_can_be_replaced(kind: str) -> None:
    machine = made(kind)
    machine.load(program("llama", rig.EXACT), rig.model("llama").weights, pages=rig.PAGES)
    first, second = two("llama")
    sequences = rig.random_ids("llama", (12,))

    def answers(*given: Adapter) -> list[rig.Array]:
        machine.set_adapters(given)
        return [machine.run(batch_of(sequences, [n])) for n in range(len(given) + 1)]

    base, one = answers(first)
    again, two_, other = answers(second, first)
    np.testing.assert_array_equal(again, base)
    np.testing.assert_array_equal(other, one)
    assert np.abs(two_ - one).max() > 0.01
    (alone,) = answers()
    np.testing.assert_array_equal(alone, base)
    with pytest.raises(MachineError, match="adapter 1 is not in 0 … 0"):
        machine.run(batch_of(sequences, [1]))


@pytest.mark.parametrize("kind", KINDS)
def test_loading_forgets_adapters(kind: str) -> None:
    machine = made(kind)
    for _ in range(2):
        machine.load(program("llama", rig.EXACT), rig.model("llama").weights, pages=rig.PAGES)
        with pytest.raises(MachineError, match="adapter 1 is not in 0 … 0"):
            machine.run(batch_of(rig.random_ids("llama", (5,)), [1]))
        machine.set_adapters(two("llama"))
        machine.run(batch_of(rig.random_ids("llama", (5,)), [1]))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_batches_are_refused_by_name(kind: str) -> None:
    machine = loaded(kind, "llama", rig.EXACT)
    sequences = rig.random_ids("llama", (5, 4))
    good = batch_of(sequences, (1, 2))
    bad_ones: list[tuple[Any, str]] = [
        (np.array([1, 3], np.int32), "adapter 3 is not in 0 … 2"),
        (np.array([-1, 2], np.int32), "adapter -1 is not in 0 … 2"),
        (np.array([1], np.int32), r"adapters has the shape \[1\], but must be \[2\]"),
        (np.array([1, 2], np.int64), "adapters is int64, but must be int32"),
    ]
    for bad, words in bad_ones:
        with pytest.raises(MachineError, match=words):
            machine.run(replace(good, adapters=bad))
    assert machine.run(good).shape == (9, 288)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_that_do_not_fit_are_refused_by_name(kind: str) -> None:
    machine, model = made(kind), rig.model("llama")
    first, second = two("llama")
    with pytest.raises(MachineError, match="load"):
        machine.set_adapters([first])
    machine.load(compile(model, adapters=first.sites), model.weights, pages=rig.PAGES)
    with pytest.raises(MachineError, match=r"random-2 changes blk.0.\w+.weight, which .*llama was"):
        machine.set_adapters([first, second])
    name, change = next(iter(first.sites.items()))
    for wrong in (
        replace(change, a=change.a[:, 1:].copy()),
        replace(change, b=change.b[1:].copy()),
        replace(change, b=change.b[:, 1:].copy()),
    ):
        bad = replace(first, sites={**first.sites, name: wrong})
        with pytest.raises(MachineError, match=f"random-1 has matrices of .* for {name}"):
            machine.set_adapters([bad])
    machine.set_adapters([first])
    assert machine.run(batch_of(rig.random_ids("llama", (5,)), [1])).shape == (5, 288)


# -- what it costs ----------------------------------------------------------------------------


def test_the_virtual_machine_counts_what_adapters_cost() -> None:
    machine = VirtualMachine(Roofline(1e9, 1e30))
    chosen = program("llama", rig.DEFAULT)
    machine.load(chosen, {}, pages=rig.PAGES)
    machine.set_adapters(two("llama"))
    sequences, seconds = rig.random_ids("llama", (5, 4)), []
    for numbers in ((0, 0), (1, 0), (1, 1), (1, 2)):
        machine.run(batch_of(sequences, numbers))
        seconds.append(machine.last_seconds)
    assert seconds == sorted(set(seconds))
    machine.run(batch_of(sequences, None))
    assert machine.last_seconds == seconds[0]
    load = Load((5, 4), (0, 0), 9)
    assert total(chosen, load).bytes == pytest.approx(1e9 * seconds[0])
