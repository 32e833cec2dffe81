"""What a batch brings a kernel, counted once more one by one."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.predict.kernels import (
    CHUNK,
    QUERY_ROWS,
    TILE_ROWS,
    AttendAllWork,
    AttendWork,
    Lengths,
    RowWork,
    run_bytes,
    works,
)
from overclock.program.compiler import compile
from overclock.program.cost import Load, total
from overclock.program.isa import Op
from overclock.program.program import Kind, Rows
from overclock.program.weights import weight_bytes
from tests.machine import rig

attends = st.builds(
    AttendWork,
    st.just("attend/f16"),
    kv_heads=st.integers(1, 5),
    shared=st.sampled_from([1, 2, 3, 4, 7, 30]),
    head_dim=st.sampled_from([16, 64]),
    window=st.sampled_from([0, 0, 9, 100, 700]),
    token_bytes=st.just(512),
)


@st.composite
def batches(draw: st.DrawFn) -> Lengths:
    pairs = draw(
        st.lists(
            st.tuples(st.one_of(st.just(1), st.integers(1, 90)), st.integers(0, 1500)),
            min_size=1,
            max_size=6,
        )
    )
    return Lengths.of([length for length, _ in pairs], [context for _, context in pairs], 1)


def units(work: AttendWork, load: Lengths) -> list[tuple[int, int]]:
    """Query rows and positions, in whole pages, of each unit of all heads."""
    found = []
    for length, context in zip(load.lengths.tolist(), load.contexts.tolist(), strict=True):
        block = max(1, QUERY_ROWS // work.shared)
        for first in range(0, length, block):
            tokens = min(block, length - first)
            stop = context + first + tokens
            seen = min(stop, work.window + tokens - 1) if work.window else stop
            found += [(tokens * work.shared, -(-seen // 32) * 32)] * work.kv_heads
    return found


def sizes(work: AttendWork, rows: int, positions: int, first: int) -> list[float]:
    tiles, columns = -(-rows // TILE_ROWS), work.head_dim
    return [
        1.0,
        tiles * positions * columns,
        tiles * first * columns,
        tiles * positions,
        rows * positions * columns,
        rows * positions,
    ]


@given(attends, batches())
def test_features_of_one_thread_are_sums_over_units(work: AttendWork, load: Lengths) -> None:
    wanted = np.zeros(6)
    for rows, positions in units(work, load):
        wanted += sizes(work, rows, positions, min(CHUNK, positions))
    found = work.features(load, 1)
    assert found[:2].tolist() == [1.0, 0.0]
    np.testing.assert_allclose(found[2:], wanted)


def makespan(pieces: Sequence[float], threads: int) -> float:
    """When the last of threads is done that each take the next piece as soon as they are free."""
    free = [0.0] * threads
    for piece in pieces:
        heapq.heapreplace(free, free[0] + piece)
    return max(free)


@given(attends, batches(), st.integers(2, 8))
def test_the_busiest_thread_has_no_more_than_when_each_takes_the_next(
    work: AttendWork, load: Lengths, threads: int
) -> None:
    all_units = units(work, load)
    longest = int((load.contexts + load.lengths).max())
    splits = len(all_units) < 4 * threads and longest > CHUNK
    pieces = []
    for rows, positions in all_units:
        starts = range(0, positions, CHUNK) if splits else (0,)
        for start in starts:
            size = min(CHUNK, positions - start) if splits else positions
            pieces.append(sizes(work, rows, size, 0 if start else min(CHUNK, size)))
    found = work.features(load, threads)
    assert found[1] == float(splits)
    for column in range(6):
        each = [piece[column] for piece in pieces]
        least, most = sum(each) / threads, makespan(each, threads)
        assert least * (1 - 1e-9) <= found[2 + column] <= most * (1 + 1e-9)


@given(attends, st.integers(1, 12), st.integers(0, 255), st.integers(1, 8))
def test_equal_pieces_are_shared_exactly(
    work: AttendWork, streams: int, context: int, threads: int
) -> None:
    load = Lengths.of([1] * streams, [context] * streams, streams)
    alone = work.features(Lengths.of([1], [context], 1), 1)[2:] / work.kv_heads
    rounds = -(-streams * work.kv_heads // threads)
    np.testing.assert_allclose(work.features(load, threads)[2:], rounds * alone)


@given(attends, batches(), st.integers(1, 8), st.data())
def test_longer_contexts_never_bring_less(
    work: AttendWork, load: Lengths, threads: int, data: st.DataObject
) -> None:
    more = data.draw(
        st.lists(st.integers(0, 400), min_size=len(load.contexts), max_size=len(load.contexts))
    )
    longer = Lengths.of(load.lengths, load.contexts + np.array(more), 1)
    before, after = work.features(load, threads), work.features(longer, threads)
    if before[1] == after[1]:
        grows = after[2:] >= before[2:] * (1 - 1e-9)
        assert grows.all()
    assert work.kv_bytes(longer) >= work.kv_bytes(load)


@given(attends, batches(), batches(), st.integers(1, 8))
def test_more_sequences_never_bring_less(
    work: AttendWork, load: Lengths, others: Lengths, threads: int
) -> None:
    both = Lengths.of(
        np.append(load.lengths, others.lengths), np.append(load.contexts, others.contexts), 1
    )
    before, after = work.features(load, threads), work.features(both, threads)
    if before[1] == after[1]:
        assert (after[2:] >= before[2:] * (1 - 1e-9)).all()


@given(attends, batches())
def test_bytes_are_those_of_the_cost_rules(work: AttendWork, load: Lengths) -> None:
    from overclock.program.cost import span

    pairs = zip(load.lengths.tolist(), load.contexts.tolist(), strict=True)
    assert work.kv_bytes(load) == 512 * sum(span(*pair, work.window) for pair in pairs)


@given(
    st.lists(st.integers(1, 600), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(1, 8),
)
def test_attention_to_all_is_counted_by_sequence(
    lengths: list[int], heads: int, threads: int
) -> None:
    work = AttendAllWork("attend_all", heads, 64)
    load = Lengths.of(lengths, [0] * len(lengths), 0)
    pages = [-(-length // 32) * 32 for length in lengths]
    pairs = [length * page for length, page in zip(lengths, pages, strict=True)]
    alone = work.features(load, 1)
    wanted = [1.0, len(lengths), sum(lengths) * 64, sum(pairs) * 64, sum(pairs)]
    assert alone.tolist() == pytest.approx([wanted[0], *(heads * each for each in wanted[1:])])
    shared = work.features(load, threads)
    assert (shared[1:] * threads >= alone[1:] * (1 - 1e-9)).all()
    longer = work.features(Lengths.of([*lengths, 7], [0] * (len(lengths) + 1), 0), threads)
    assert (longer >= shared * (1 - 1e-9)).all()


@pytest.mark.parametrize("name", rig.DECODERS)
def test_a_run_goes_through_its_matrices_and_kv_once(name: str) -> None:
    program = compile(rig.model(name))
    load = Lengths.of([5, 1], [0, 90], 2)
    found = dict(enumerate(works(program, "f16")))
    products = (Op.MATMUL, Op.GATED_MATMUL)
    read = {
        operand.buffer
        for each in program.instructions
        if each.op in products
        for operand in each.reads()
        if program.buffers[operand.buffer].kind is Kind.WEIGHT
        and len(program.buffers[operand.buffer].shape) == 2
    }
    weights = sum(weight_bytes(program.buffers[each]) for each in read)
    attends = [i for i, each in enumerate(program.instructions) if each.op is Op.ATTEND]
    spent = [total_kv(name, index) for index in attends]
    assert run_bytes(program, load, found) == weights + sum(spent)


def total_kv(name: str, index: int) -> int:
    from overclock.program.cost import cost

    program = compile(rig.model(name))
    return cost(program, program.instructions[index], Load((5, 1), (0, 90), 2), "f16").kv_bytes


@pytest.mark.parametrize("name", rig.DECODERS + rig.ENCODERS)
def test_weights_of_products_are_those_of_the_cost_rules(name: str) -> None:
    program = compile(rig.model(name))
    whole = total(program, Load((1,), (0,), 1)).weight_bytes
    found = sum(each.weight_bytes for each in works(program, "f16") if isinstance(each, RowWork))
    assert 0 < found <= whole


def test_layers_of_one_shape_are_one_kernel() -> None:
    program = compile(rig.model("llama"))
    found = works(program, "f16")
    by_layer = {
        layer: [
            work
            for work, each in zip(found, program.instructions, strict=True)
            if each.layer == layer
        ]
        for layer in (0, 1)
    }
    attends = [[w for w in each if isinstance(w, AttendWork)] for each in by_layer.values()]
    assert attends[0] == attends[1]
    products = [
        {w.key for w in each if isinstance(w, RowWork) and w.weight_bytes}
        for each in by_layer.values()
    ]
    assert products[0] == products[1]


def test_rows_are_counted_by_their_kind() -> None:
    load = Lengths.of([5, 1], [0, 10], 3)
    assert [load.rows(kind) for kind in (Rows.TOKENS, Rows.SELECTED, Rows.SEQUENCES)] == [6, 3, 2]


def test_another_window_or_head_is_another_amount_of_work() -> None:
    work = AttendWork("attend/f16", 2, 3, 64, 0, 512)
    load = Lengths.of([1], [1000], 1)
    assert replace(work, window=100).kv_bytes(load) == 100 * 512
    assert work.kv_bytes(load) == 1001 * 512
