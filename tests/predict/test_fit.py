"""Formulas from times: planted ones are found, and more work never takes less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from overclock.predict.fit import (
    BLOCK_ROWS,
    NEAR_BYTES,
    Conditions,
    RowFit,
    RowTable,
    Sample,
    SumFit,
    farness,
    features_of,
    fit_rows,
    fit_sums,
    non_negative,
)
from overclock.predict.kernels import AttendWork, Lengths, RowWork
from overclock.predict.sheet import Scale
from overclock.program.program import Rows
from tests.predict.rig import FAR, FREE, NEAR, Curve

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
        Sample(work, tokens(count), seconds(work, count), NEAR, FREE(NEAR))
        for work in (SMALL, MIDDLE, LARGE)
        for count in rows
    ]
    table = fit_rows(samples, threads)
    assert (table.rows, table.moved) == (rows, NEAR)
    fit = RowFit(table)
    at = Conditions(threads, NEAR, FREE)
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
    fit = RowFit(RowTable((8, 16), ((0.0, 1.0, 0.0), (0.0, 2.0, 0.0)), NEAR))
    at = Conditions(1, NEAR, FREE)
    assert fit.seconds(SMALL, 3, at) == fit.seconds(SMALL, 8, at) == pytest.approx(8.0)
    assert fit.seconds(SMALL, 0, at) == 0.0


CURVE = Curve(4e10, 1e10)


def test_farness_by_hand() -> None:
    # 1e10 of memory instead of 4e10 nearby: 100 ps a byte instead of 25.
    assert farness(CURVE, FAR) == pytest.approx(75e-12)
    assert farness(CURVE, NEAR_BYTES) == farness(CURVE, 1.0) == 0.0
    # On a computer whose memory is twice as fast, a byte waits half as long.
    at = Conditions(1, FAR, CURVE, Scale(2.0))
    assert at.farness == pytest.approx(37.5e-12)
    assert at.bytes_per_second == pytest.approx(2e10)


def test_a_planted_attention_is_found() -> None:
    weights = np.array([2e-6, 5e-6, 1e-7, 2e-11, 1e-12, 3e-10, 4e-12, 5e-11, 1.2, 0.7])
    shapes = [([1] * count, [context] * count) for count in (1, 5, 20) for context in (9, 300, 900)]
    shapes += [([40], [0]), ([7, 100], [400, 3]), ([1, 1, 9], [1000, 30, 77])]
    loads = [Lengths.of(lengths, contexts, 1) for lengths, contexts in shapes]
    places = (NEAR, (NEAR * FAR) ** 0.5, FAR)

    def seconds(load: Lengths, moved: float) -> float:
        size, rate = ATTEND.kv_bytes(load), CURVE(moved)
        memory = [size / rate, size * max(0.0, 1 / rate - 1 / 4e10)]
        return float(np.append(ATTEND.features(load, 2), memory) @ weights)

    fit = fit_sums(
        [
            Sample(ATTEND, load, seconds(load, moved), moved, CURVE(moved), farness(CURVE, moved))
            for load in loads
            for moved in places
        ],
        2,
    )
    assert len(fit.weights) == len(weights)
    for load in (*loads, Lengths.of([3, 1], [100, 600], 2), Lengths.of([200], [50], 1)):
        for moved in (*places, 1.5 * NEAR, 0.7 * FAR, 3 * FAR):
            found = fit.seconds(ATTEND, load, Conditions(2, moved, CURVE))
            assert found == pytest.approx(seconds(load, moved), rel=0.02)


amounts = st.floats(0.0, 1e-6)
sums = st.lists(amounts, min_size=10, max_size=10).map(lambda each: SumFit(tuple(each)))
curves = st.tuples(st.floats(1e9, 1e11), st.floats(0.05, 1.0)).map(
    lambda each: Curve(each[0], each[0] * each[1])
)
sizes = st.floats(1e5, 2e9)
scales = st.builds(Scale, st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10))
conditions = st.builds(Conditions, st.integers(1, 8), sizes, curves, scales)


@given(sums, conditions, st.integers(1, 40), st.integers(0, 2000), st.floats(0.05, 1.0))
def test_attention_waits_for_slower_memory_and_no_longer_than_it_is_slower(
    fit: SumFit, at: Conditions, streams: int, context: int, share: float
) -> None:
    load = Lengths.of([1] * streams, [context] * streams, streams)
    slow = replace(at, scale=replace(at.scale, memory=share * at.scale.memory))
    before, after = (fit.seconds(ATTEND, load, each) for each in (at, slow))
    assert before * (1 - 1e-9) <= after <= before / share * (1 + 1e-9)
    # Only the last two parts are of bytes.
    features = features_of(ATTEND, load, at.threads, at.bytes_per_second, at.farness)
    memory = float(features[-2:] @ np.array(fit.weights[-2:]))
    assert after - before == pytest.approx(memory * (1 / share - 1), rel=1e-6, abs=1e-12)


@given(sums, conditions, st.integers(1, 40), st.integers(0, 2000), st.floats(1.0, 100.0))
def test_attention_never_takes_less_as_a_run_goes_through_more(
    fit: SumFit, at: Conditions, streams: int, context: int, more: float
) -> None:
    load = Lengths.of([1] * streams, [context] * streams, streams)
    before = fit.seconds(ATTEND, load, at)
    after = fit.seconds(ATTEND, load, replace(at, moved=more * at.moved))
    assert 0.0 <= before * (1 - 1e-9) <= after


weights_of_rows = st.tuples(amounts, amounts, amounts.map(lambda each: each * 1e-3))
rows_of_tables = st.sets(st.integers(1, 600), min_size=1, max_size=5).map(
    lambda each: tuple(sorted(each))
)


@st.composite
def tables(draw: st.DrawFn, moved: float, beyond: int = 0) -> RowTable:
    """Any table, as noise would leave it. beyond: its last number of rows is no smaller."""
    rows = draw(rows_of_tables)
    if rows[-1] < beyond:
        rows = (*rows, beyond)
    return RowTable(rows, tuple(draw(weights_of_rows) for _ in rows), moved)


near_tables = st.floats(5e7, 1.5e8).flatmap(tables)
far_tables = st.floats(3e8, 5e8).flatmap(tables)
near_fits = st.builds(RowFit, near_tables)
fits = st.builds(RowFit, near_tables, st.none() | far_tables)
both_fits = st.builds(RowFit, near_tables, far_tables)
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
    assert fit.seconds(work, rows + more, at) >= fit.seconds(work, rows, at) >= 0.0


@given(fits, matrices, conditions, st.integers(1, 3000), st.floats(0.05, 1.0))
def test_slower_memory_never_takes_less_and_at_most_as_much_more(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, share: float
) -> None:
    slow = replace(at, scale=replace(at.scale, memory=share * at.scale.memory))
    before, after = (fit.seconds(work, rows, each) for each in (at, slow))
    assert before * (1 - 1e-9) <= after <= before / share * (1 + 1e-9)


@given(fits, matrices, conditions, st.integers(1, 3000), st.floats(1.0, 10.0))
def test_faster_arithmetic_never_takes_more_and_at_most_as_much_less(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, faster: float
) -> None:
    scale = replace(at.scale, f32=faster * at.scale.f32, int8=faster * at.scale.int8)
    before, after = (fit.seconds(work, rows, each) for each in (at, replace(at, scale=scale)))
    assert before / faster * (1 - 1e-9) <= after <= before * (1 + 1e-9)


@given(fits, matrices, conditions, st.integers(1, 3000), st.floats(0.1, 10.0))
def test_a_computer_that_does_all_so_many_times_as_fast_takes_so_much_less(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, times: float
) -> None:
    scale = Scale(*(times * each for each in (at.scale.memory, at.scale.f32, at.scale.int8)))
    before, after = (fit.seconds(work, rows, each) for each in (at, replace(at, scale=scale)))
    assert after == pytest.approx(before / times)


@given(fits, matrices, conditions, st.integers(1, 3000), st.floats(1.0, 100.0))
def test_a_run_through_more_bytes_never_takes_less(
    fit: RowFit, work: RowWork, at: Conditions, rows: int, more: float
) -> None:
    before = fit.seconds(work, rows, at)
    assert fit.seconds(work, rows, replace(at, moved=more * at.moved)) >= before * (1 - 1e-9)


def no_less_than_its_bytes(table: RowTable, curve: Curve) -> RowTable:
    least = 1.0 / curve(table.moved)
    weights = tuple((first, panel, least + product) for first, panel, product in table.weights)
    return replace(table, weights=weights)


@given(near_tables, st.data(), matrices, curves, conditions, st.integers(1, 3000))
def test_a_wider_matrix_never_takes_less(
    near: RowTable, data: st.DataObject, work: RowWork, curve: Curve, at: Conditions, rows: int
) -> None:
    # No kernel takes less than its bytes.
    far = data.draw(st.none() | tables(4e8, beyond=near.rows[-1]))
    near = no_less_than_its_bytes(near, curve)
    fit = RowFit(near, None if far is None else no_less_than_its_bytes(far, curve))
    at = replace(at, threads=1, bandwidth=curve)
    times = data.draw(st.integers(2, 9))
    panels, product = work.sizes
    wide = replace(work, sizes=(panels, times * product), weight_bytes=times * work.weight_bytes)
    tall = replace(wide, sizes=(times * panels, times * product), units=times * work.units)
    before = fit.seconds(work, rows, at)
    assert fit.seconds(wide, rows, at) >= before * (1 - 1e-9)
    assert fit.seconds(tall, rows, at) >= before * (1 - 1e-9)


# -- weights that come from far ------------------------------------------------------------------


@given(both_fits, matrices, conditions, st.integers(1, 3000))
def test_weights_from_far_never_cost_less_than_from_nearby(
    fit: RowFit, work: RowWork, at: Conditions, rows: int
) -> None:
    at = replace(at, moved=max(at.moved, fit.near.moved))
    nearby = RowFit(fit.near).seconds(work, rows, replace(at, moved=fit.near.moved))
    assert fit.seconds(work, rows, at) >= nearby * (1 - 1e-9)


@given(both_fits, matrices, conditions, st.floats(0.0, 1.0))
def test_weights_cost_what_the_curve_says_between_near_and_far(
    fit: RowFit, work: RowWork, at: Conditions, part: float
) -> None:
    assert fit.far is not None
    near, far, curve = fit.near.moved, fit.far.moved, at.bandwidth
    moved = near * (far / near) ** part
    low, high, middle = (
        np.array(fit.times(work, replace(at, moved=each))) for each in (near, far, moved)
    )
    # The part of the way that a byte's time has gone from the one's to the other's.
    way = 1 / curve(far) - 1 / curve(near)
    share = (1 / curve(moved) - 1 / curve(near)) / way if way > 0 else 0.0
    between = low + share * (high - low)
    slack = 1e-9 * high
    assert (low - slack <= middle).all()
    assert (middle <= high + slack).all()
    if len(fit.near.rows) == 1:  # otherwise a time may be that of fewer rows
        np.testing.assert_allclose(middle, between, rtol=1e-6, atol=1e-15)


def falling(rate: float, share: float) -> Callable[[float], float]:
    """Memory that gives only a share of it from 256 MiB on, and less and less on the way there."""
    low, high = float(NEAR_BYTES), float(4 * NEAR_BYTES)

    def bandwidth(moved: float) -> float:
        place = min(1.0, max(0.0, (moved - low) / (high - low)))
        return rate * (1 - place * (1 - share))

    return bandwidth


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


NEARBY = RowTable((1, 4, 100), ((1e-6, 0.0, 3e-11), (1e-6, 0.0, 4e-11), (1e-6, 0.0, 9e-10)), NEAR)
AWAY = RowTable((1, 4), ((2e-6, 0.0, 1.2e-10), (2e-6, 0.0, 1.3e-10)), FAR)


@pytest.mark.parametrize("work", [SMALL, MIDDLE, LARGE])
def test_anchors_are_hit(work: RowWork) -> None:
    fit = RowFit(NEARBY, AWAY)
    product = work.sizes[1]
    for rows, near, far in ((1, 3e-11, 1.2e-10), (4, 4e-11, 1.3e-10)):
        found = [fit.seconds(work, rows, Conditions(1, moved, CURVE)) for moved in (NEAR, FAR)]
        assert found == pytest.approx([1e-6 + near * product, 2e-6 + far * product])
        alone = RowFit(NEARBY).seconds(work, rows, Conditions(1, NEAR, CURVE))
        assert found[0] == pytest.approx(alone)
    # Half way by the time of a byte: 62.5 ps, which is 1.6e10 bytes/s.
    half = next(each for each in np.geomspace(NEAR, FAR, 20_000) if CURVE(each) <= 1.6e10)
    found = [fit.seconds(work, 4, Conditions(1, half, CURVE))]
    assert found == pytest.approx([1.5e-6 + 8.5e-11 * product], rel=1e-3)


def test_beyond_the_last_number_of_rows_the_extra_stays() -> None:
    fit = RowFit(NEARBY, AWAY)
    extra = 1e-6 + 9e-11 * LARGE.sizes[1]  # what 4 rows take longer
    near, far = Conditions(1, NEAR, CURVE), Conditions(1, FAR, CURVE)
    for rows in (4, 30, 52, 100):
        found = fit.seconds(LARGE, rows, far) - fit.seconds(LARGE, rows, near)
        assert found == pytest.approx(extra)


def test_beyond_the_bytes_that_were_measured_memory_goes_on_by_its_curve() -> None:
    fit = RowFit(NEARBY, AWAY)
    slower = Curve(4e10, 1e10, further=5e9)  # memory that gets slower yet, far out
    work = replace(LARGE, weight_bytes=10**9)  # takes no longer than its bytes: all of it waits
    at_far, beyond = (fit.seconds(work, 1, Conditions(1, moved, slower)) for moved in (FAR, inf))
    start = 1e-6
    assert beyond - start == pytest.approx(2 * (at_far - start))


def test_a_kernel_that_far_weights_do_not_slow_down_stays_as_it_is() -> None:
    faster = replace(AWAY, weights=((0.0, 0.0, 1e-11), (0.0, 0.0, 1e-11)))
    fit, alone = RowFit(NEARBY, faster), RowFit(NEARBY)
    for rows in (1, 3, 4, 50, 200):
        nearby = alone.seconds(LARGE, rows, Conditions(1, NEAR, CURVE))
        assert fit.seconds(LARGE, rows, Conditions(1, FAR, CURVE)) == pytest.approx(nearby)


def test_with_one_bandwidth_everywhere_nothing_is_far() -> None:
    flat = Curve(2e10, 2e10)
    fit, alone = RowFit(NEARBY, AWAY), RowFit(NEARBY)
    for moved in (1.0, NEAR, FAR, 1e10):
        at = Conditions(1, moved, flat)
        assert fit.seconds(LARGE, 3, at) == pytest.approx(alone.seconds(LARGE, 3, at))
