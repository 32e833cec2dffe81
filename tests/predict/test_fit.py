"""Formulas from times: planted ones are found, and more work never takes less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
from hypothesis import assume, given
from hypothesis import strategies as st

from overclock.predict.fit import (
    BLOCK_ROWS,
    NEAR_BYTES,
    Conditions,
    RowFit,
    RowTable,
    Sample,
    fit_rows,
    fit_sums,
    non_negative,
)
from overclock.predict.kernels import AttendWork, Lengths, RowWork
from overclock.predict.sheet import Scale
from overclock.program.program import Rows

SMALL, MIDDLE, LARGE = (
    RowWork("matmul/Q8_0", Rows.TOKENS, (float(panels), work), int(work), panels)
    for panels, work in ((8, 1e4), (20, 4e5), (64, 9e5))
)
ATTEND = AttendWork("attend/f16", 2, 3, 64, 0, 512)


def tokens(rows: int) -> Lengths:
    return Lengths.of([rows], [0], 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(6, 20))
def test_weights_are_those_of_scipy(seed: int, count: int, samples: int) -> None:
    random = np.random.default_rng(seed)
    features = random.uniform(0.0, 1.0, (samples, count))
    times = features @ random.normal(0.5, 1.0, count) + random.normal(0, 0.1, samples)
    times = np.abs(times) + 0.1
    found = non_negative(features, times)
    wanted, least = scipy.optimize.nnls(features / times[:, None], np.ones(samples))
    assert (found >= 0).all()
    error = np.linalg.norm(features @ found / times - 1.0)
    assert error == pytest.approx(least, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_feature_that_is_never_there_gets_no_weight() -> None:
    found = non_negative(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([3.0, 6.0]))
    assert found.tolist() == pytest.approx([3.0, 0.0])


@given(
    constant=st.floats(1e-7, 1e-5),
    panel=st.floats(1e-9, 1e-7),
    product=st.floats(1e-12, 1e-10),
    threads=st.integers(1, 8),
)
def test_a_planted_kernel_is_found(
    constant: float, panel: float, product: float, threads: int
) -> None:
    rows = (1, 7, 600)

    def seconds(work: RowWork, count: int) -> float:
        pieces = work.units * -(-count // BLOCK_ROWS)
        busiest = -(-pieces // threads) * threads / pieces
        return constant + count * busiest * (panel * work.sizes[0] + product * work.sizes[1])

    samples = [
        Sample(work, tokens(count), seconds(work, count), 1e7, 1e15)  # bytes cost nothing
        for work in (SMALL, MIDDLE, LARGE)
        for count in rows
    ]
    fit = RowFit(fit_rows(samples, threads))
    at = Conditions(threads, 1e7, flat(1e15))
    other = replace(MIDDLE, sizes=(33.0, 5e5), weight_bytes=500_000, units=33)
    for work in (SMALL, MIDDLE, LARGE, other):
        for count in rows:  # at what was measured
            found = fit.seconds(work, count, at)
            assert found == pytest.approx(seconds(work, count), rel=1e-4)
        middle = fit.seconds(work, 4, at)  # half way from 1 to 7
        both = fit.seconds(work, 1, at) + fit.seconds(work, 7, at)
        assert middle == pytest.approx(both / 2)
        beyond = fit.seconds(work, 900, at)
        assert beyond == pytest.approx(1.5 * fit.seconds(work, 600, at))


def test_before_the_first_number_of_rows_a_time_stays() -> None:
    fit = RowFit(RowTable((8, 16), ((0.0, 1.0, 0.0), (0.0, 2.0, 0.0)), 1e7))
    at = Conditions(1, 1e7, flat(1e15))
    assert fit.seconds(SMALL, 3, at) == fit.seconds(SMALL, 8, at) == pytest.approx(8.0)
    assert fit.seconds(SMALL, 0, at) == 0.0


def test_a_planted_attention_is_found() -> None:
    weights = np.array([2e-6, 5e-6, 1e-7, 2e-11, 1e-12, 3e-10, 4e-12, 5e-11, 1.2, 0.7])
    far = 1e-11
    shapes = [([1] * count, [context] * count) for count in (1, 5, 20) for context in (9, 300, 900)]
    shapes += [([40], [0]), ([7, 100], [400, 3]), ([1, 1, 9], [1000, 30, 77])]
    loads = [Lengths.of(lengths, contexts, 1) for lengths, contexts in shapes]

    def seconds(load: Lengths) -> float:
        size = ATTEND.kv_bytes(load)
        features = np.append(ATTEND.features(load, 2), (size / 2e10, size * far))
        return float(features @ weights)

    samples = [Sample(ATTEND, load, seconds(load), 1e9, 2e10, far) for load in loads]
    fit = fit_sums(samples, 2)
    at = Conditions(2, 1e9, lambda moved: 2e10 if moved > NEAR_BYTES else 1 / (1 / 2e10 - far))
    for load in (*loads, Lengths.of([3, 1], [100, 600], 2), Lengths.of([200], [50], 1)):
        found = fit.seconds(ATTEND, load, at)
        assert found == pytest.approx(seconds(load), rel=0.02)


parts = st.floats(0.0, 1e-6)


def flat(rate: float) -> Callable[[float], float]:
    """Memory that gives as much whatever a run goes through."""
    return lambda moved: rate


def falling(rate: float, share: float) -> Callable[[float], float]:
    """Memory that gives only a share of it from 256 MiB on, and less and less on the way there."""
    low, high = float(NEAR_BYTES), float(4 * NEAR_BYTES)

    def bandwidth(moved: float) -> float:
        place = min(1.0, max(0.0, (moved - low) / (high - low)))
        return rate * (1 - place * (1 - share))

    return bandwidth


@st.composite
def tables(draw: st.DrawFn, moved: float) -> RowTable:
    """Any formula, as noise would leave it."""
    rows = sorted(draw(st.sets(st.integers(1, 600), min_size=1, max_size=5)))
    weights = tuple((draw(parts), draw(parts), draw(parts) * 1e-3) for _ in rows)
    return RowTable(tuple(rows), weights, moved)


fits = st.builds(RowFit, tables(NEAR_BYTES), st.one_of(st.none(), tables(4.0 * NEAR_BYTES)))
conditions = st.builds(
    Conditions,
    st.integers(1, 8),
    st.floats(1e6, 1e10),
    st.builds(falling, st.floats(1e9, 1e12), st.floats(0.2, 1.0)),
    st.builds(Scale, st.just(1.0), st.floats(0.1, 10), st.floats(0.1, 10)),
)
matrices = st.tuples(st.integers(1, 100), st.integers(1, 100), st.booleans()).map(
    lambda each: RowWork(
        "matmul",
        Rows.TOKENS,
        (float(each[0]), 1024.0 * each[0] * each[1]),
        1024 * each[0] * each[1],
        each[0],
        each[2],
    )
)


@given(fits, matrices, conditions, st.integers(0, 3000), st.integers(1, 3000))
def test_more_rows_never_take_less(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, more: int
) -> None:
    assert fit.seconds(work, rows + more, at) >= fit.seconds(work, rows, at)


@given(fits, matrices, conditions, st.integers(1, 3000), st.floats(0.05, 1.0))
def test_slower_memory_never_takes_less_and_at_most_as_much_more(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, share: float
) -> None:
    slow = replace(at, scale=replace(at.scale, memory=share))
    before, after = (fit.seconds(work, rows, each) for each in (at, slow))
    assert before * (1 - 1e-9) <= after <= before / share * (1 + 1e-9)


@given(fits, matrices, conditions, st.integers(1, 3000), st.floats(1.0, 100.0))
def test_weights_from_farther_never_take_less(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, times: float
) -> None:
    assume(at.moved >= NEAR_BYTES)
    farther = replace(at, moved=times * at.moved)
    assert fit.seconds(work, rows, farther) >= fit.seconds(work, rows, at) * (1 - 1e-9)


def test_between_near_and_far_the_bandwidth_decides() -> None:
    near = RowTable((1, 4), ((0.0, 1.0, 0.0), (0.0, 4.0, 0.0)), float(NEAR_BYTES))
    far = RowTable((1,), ((0.0, 3.0, 0.0),), float(4 * NEAR_BYTES))
    work = replace(SMALL, sizes=(1.0, 0.0), units=1)
    memory = falling(1e12, 0.5)  # bytes themselves take next to nothing

    def at(moved: float) -> Conditions:
        return Conditions(1, moved, memory)

    fit = RowFit(near, far)
    assert fit.seconds(work, 1, at(NEAR_BYTES)) == pytest.approx(1.0)
    assert fit.seconds(work, 1, at(4 * NEAR_BYTES)) == pytest.approx(3.0)
    half = NEAR_BYTES + 2 * NEAR_BYTES  # where a byte takes as much longer as half the way: 2/3
    assert memory(half) == pytest.approx(2e12 / 3)
    assert fit.seconds(work, 1, at(half)) == pytest.approx(2.0)
    # Where only the near ones were measured, the far ones add as much as with the most rows.
    assert fit.seconds(work, 4, at(4 * NEAR_BYTES)) == pytest.approx(4.0 + 2.0)


@given(fits, matrices, conditions, st.integers(1, 3000), st.floats(1.0, 10.0))
def test_faster_arithmetic_never_takes_more_and_at_most_as_much_less(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, faster: float
) -> None:
    scale = Scale(1.0, faster * at.scale.f32, faster * at.scale.int8)
    before, after = (fit.seconds(work, rows, each) for each in (at, replace(at, scale=scale)))
    assert before / faster * (1 - 1e-9) <= after <= before * (1 + 1e-9)


@given(fits, matrices, conditions, st.integers(1, 3000), st.integers(2, 9))
def test_a_wider_matrix_never_takes_less(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, times: int
) -> None:
    # No kernel takes less than its bytes.
    least = 1.0 / at.bandwidth(NEAR_BYTES)
    weights = tuple((first, panel, least + product) for first, panel, product in fit.near.weights)
    fit = RowFit(replace(fit.near, weights=weights))
    at = replace(at, threads=1)
    panels, product = work.sizes
    wide = replace(work, sizes=(panels, times * product), weight_bytes=times * work.weight_bytes)
    tall = replace(wide, sizes=(times * panels, times * product), units=times * work.units)
    before = fit.seconds(work, rows, at)
    assert fit.seconds(wide, rows, at) >= before * (1 - 1e-9)
    assert fit.seconds(tall, rows, at) >= before * (1 - 1e-9)
