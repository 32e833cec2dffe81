"""Whole KV pages: what a sequence has in them can be copied, taken out and put back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overclock.errors import MachineError
from overclock.machine.machine import KvFormat, Machine
from overclock.machine.reference import ReferenceMachine
from overclock.machine.virtual import Roofline, VirtualMachine
from overclock.program.program import PAGE_TOKENS
from tests.machine import rig

NAME = "gemma3"
KV: tuple[KvFormat, ...] = ("f32", "f16", "i8")
BYTES = {"f32": 4, "f16": 2, "i8": 1}
TOKENS = 70  # three pages, the last not full


def made(kind: str, kv: KvFormat = "f16", name: str = NAME) -> Machine:
    """A machine of each kind, with its pages still empty."""
    if kind == "native":
        pytest.importorskip("overclock._native")
        from overclock.machine.native import NativeMachine

        machine: Machine = NativeMachine(2, kv=kv)
    elif kind == "reference":
        machine = ReferenceMachine(kv=kv)
    else:
        machine = VirtualMachine(Roofline(1e10, 1e11), kv=kv)
    machine.load(rig.program(name, rig.DEFAULT), rig.model(name).weights, pages=rig.PAGES)
    return machine


KINDS = ("reference", "virtual", "native")


def prompt(machine: Machine, pages: list[int]) -> list[rig.IntArray]:
    """Run all tokens of a sequence but the last two into these pages."""
    ids = rig.random_ids(NAME, (TOKENS,))
    table = np.array([pages], np.int32)
    machine.run(rig.decoder_batch(ids, [0], table, [(0, TOKENS - 2)]))
    return ids


def rest(machine: Machine, ids: list[rig.IntArray], pages: list[int]) -> rig.Array:
    """The logits of the last two tokens, behind what stands in these pages."""
    table = np.array([pages], np.int32)
    return machine.run(rig.decoder_batch(ids, [TOKENS - 2], table, [(0, 2)])).copy()


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_a_page(kind: str, kv: KvFormat) -> None:
    machine, caches = made(kind, kv), rig.program(NAME, rig.DEFAULT).caches
    element = 4 if kind == "reference" else BYTES[kv]
    least = sum(2 * PAGE_TOKENS * cache.columns * element for cache in caches)
    assert least <= machine.page_bytes <= 2 * least
    assert machine.read_pages([3, 1]).shape == (2, machine.page_bytes)
    assert machine.read_pages([]).shape == (0, machine.page_bytes)


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_goes_on_in_copied_pages(kind: str, kv: KvFormat) -> None:
    machine = made(kind, kv)
    ids = prompt(machine, [4, 9, 2])
    machine.copy_pages([4, 9, 2], np.array([7, 8, 11]))
    wanted = rest(machine, ids, [4, 9, 2])
    np.testing.assert_array_equal(rest(machine, ids, [7, 8, 11]), wanted)
    np.testing.assert_array_equal(rest(machine, ids, [7, 9, 11]), wanted)


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_goes_on_in_another_machine(kind: str, kv: KvFormat) -> None:
    first, second = made(kind, kv), made(kind, kv)
    ids = prompt(first, [4, 9, 2])
    data = first.read_pages([4, 9, 2])
    second.write_pages([0, 5, 1], data)
    np.testing.assert_array_equal(second.read_pages([0, 5, 1]), data)
    np.testing.assert_array_equal(rest(second, ids, [0, 5, 1]), rest(first, ids, [4, 9, 2]))


@pytest.mark.parametrize("kind", ["reference", "native"])
def test_what_was_read_is_a_copy(kind: str) -> None:
    machine = made(kind)
    ids = prompt(machine, [0, 1, 2])
    data = machine.read_pages([0, 1, 2])
    kept = data.copy()
    assert data.any()
    prompt(machine, [2, 1, 0])
    np.testing.assert_array_equal(data, kept)
    machine.write_pages([3, 4, 5], data)
    data[:] = 0
    assert rest(machine, ids, [3, 4, 5]).any()
    np.testing.assert_array_equal(machine.read_pages([3, 4, 5])[:2], kept[:2])


page = st.integers(0, rig.PAGES - 1)


@pytest.mark.parametrize("kind", ["reference", "native"])
@settings(max_examples=20, deadline=None)
@given(pairs=st.lists(st.tuples(page, page), max_size=20), seed=st.integers(0, 1000))
def test_copies_go_in_order(kind: str, pairs: list[tuple[int, int]], seed: int) -> None:
    machine = COPIED.setdefault(kind, made(kind))
    wanted = np.random.default_rng(seed).integers(0, 256, (rig.PAGES, machine.page_bytes), np.uint8)
    machine.write_pages(range(rig.PAGES), wanted)
    machine.copy_pages([source for source, _ in pairs], [target for _, target in pairs])
    for source, target in pairs:
        wanted[target] = wanted[source]
    np.testing.assert_array_equal(machine.read_pages(range(rig.PAGES)), wanted)


COPIED: dict[str, Machine] = {}


@pytest.mark.parametrize("kind", KINDS)
def test_bad_pages_are_refused_by_name(kind: str) -> None:
    machine = made(kind)
    data = machine.read_pages([0, 1])
    for bad in (-1, rig.PAGES, 2**40):
        words = f"KV page {bad} is not one of the machine's 16"
        with pytest.raises(MachineError, match=words):
            machine.copy_pages([0, bad], [1, 2])
        with pytest.raises(MachineError, match=words):
            machine.copy_pages([0, 1], [1, bad])
        with pytest.raises(MachineError, match=words):
            machine.read_pages([bad])
        with pytest.raises(MachineError, match=words):
            machine.write_pages([1, bad], data)
    with pytest.raises(MachineError, match="2 KV pages cannot be copied to 1"):
        machine.copy_pages([0, 1], [1])
    with pytest.raises(MachineError, match="integers"):
        machine.read_pages([1.5])  # type: ignore[list-item]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_bytes_are_refused(kind: str) -> None:
    machine = made(kind)
    data = machine.read_pages([0, 1])
    wrong: list[Any] = [data[:1], data[:, :-1], data.astype(np.int8), data.reshape(-1)]
    for bad in wrong:
        with pytest.raises(MachineError, match="the bytes of 2 KV pages are"):
            machine.write_pages([0, 1], bad)
    columns = np.zeros((machine.page_bytes, 2), np.uint8).T
    machine.write_pages([0, 1], columns)
    data.flags.writeable = False
    machine.write_pages([0, 1], data)


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_has_no_pages(kind: str) -> None:
    machine = made(kind, name="bert")
    assert machine.page_bytes == 0
    with pytest.raises(MachineError, match="the machine's 0"):
        machine.read_pages([0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_can_be_written_and_stays_while_it_is_held(kind: str) -> None:
    machine = made(kind)
    ids = rig.random_ids(NAME, (9,))
    batch = rig.decoder_batch(ids, [0], rig.page_table([9]), [(0, 9)])
    results, copies = [], []
    for rows in (9, 2, 9, 5, 1):
        few = replace(batch, output_rows=np.arange(rows, dtype=np.int32))
        results.append(machine.run(few))
        copies.append(results[-1].copy())
        results[-1][:] += rows
        copies[-1] += rows
    for result, copy in zip(results, copies, strict=True):
        np.testing.assert_array_equal(result, copy)
