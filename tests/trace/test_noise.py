"""The statistics against SciPy's, and against noise that is known to be nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.trace.noise import (
    Blocks,
    benjamini_hochberg,
    blocks,
    difference,
    incomplete_beta,
    t_quantile,
    t_tails,
)


@given(st.floats(0.2, 500), st.floats(0.2, 500), st.floats(0, 1))
def test_the_incomplete_beta_function(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(scipy.special.betainc(a, b, x), abs=1e-11)


@given(st.floats(-200, 200), st.floats(0.5, 1000))
def test_the_tails_of_students_distribution(t: float, freedom: float) -> None:
    assert t_tails(t, freedom) == pytest.approx(2 * scipy.stats.t.sf(abs(t), freedom), abs=1e-11)


@given(st.floats(0.01, 0.999), st.floats(0.5, 1000))
def test_the_quantile_is_where_the_tails_are_so_large(confidence: float, freedom: float) -> None:
    wanted = scipy.stats.t.ppf((1 + confidence) / 2, freedom)
    assert t_quantile(confidence, freedom) == pytest.approx(wanted, rel=1e-6)


def test_an_infinite_t_is_impossible() -> None:
    assert t_tails(float("inf"), 3) == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_and_hochberg(probabilities: list[float]) -> None:
    wanted = scipy.stats.false_discovery_control(probabilities)
    assert benjamini_hochberg(probabilities) == pytest.approx(wanted.tolist())


def test_nothing_to_judge() -> None:
    assert benjamini_hochberg([]) == []


def alternating(seed: int, count: int, level: float) -> Blocks:
    """Neighbours that are on different sides, so that every block is news."""
    chance = np.random.default_rng(seed)
    signs = np.where(np.arange(count) % 2, 1.0, -1.0)
    return Blocks(level + signs * chance.uniform(0.5, 1, count) * 0.1, np.zeros(count))


@pytest.mark.parametrize("level", [10.0, 10.05, 11.0])
def test_welchs_test(level: float) -> None:
    a, b = alternating(1, 8, 10.0), alternating(2, 13, level)
    found = difference(a, b)
    wanted = scipy.stats.ttest_ind(b.logs, a.logs, equal_var=False)
    interval = wanted.confidence_interval(0.95)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-5)
    assert np.log(found.ratio) == pytest.approx(b.logs.mean() - a.logs.mean())
    assert np.log(found.low) == pytest.approx(interval.low, rel=1e-5)
    assert np.log(found.high) == pytest.approx(interval.high, rel=1e-5)


def test_blocks_are_medians_of_what_follows_each_other() -> None:
    times = np.repeat([10.0, 20.0, 30.0, 7.0], 4)
    times[2] = 1e9
    found = blocks(times, np.arange(16.0))
    assert found is not None
    assert np.exp(found.logs) == pytest.approx([10, 20, 30, 7])
    assert found.contexts == pytest.approx([1.5, 5.5, 9.5, 13.5])


def test_too_few_times_make_no_blocks() -> None:
    assert blocks(np.ones(15), np.ones(15)) is None
    assert blocks(np.ones(16), np.ones(16)) is not None


def test_equal_times_do_not_differ_and_a_nanosecond_is_no_difference() -> None:
    times = np.full(64, 1000.0)
    same = difference(made(times), made(times))
    assert (same.ratio, same.p) == (1.0, 1.0)
    assert difference(made(np.full(64, 2.0)), made(np.full(64, 2.2))).p > 0.05
    assert difference(made(times), made(times + 100)).p < 1e-6


def made(times: NDArray[np.float64], contexts: NDArray[np.float64] | None = None) -> Blocks:
    found = blocks(times, np.zeros(len(times)) if contexts is None else contexts)
    assert found is not None
    return found


Source = Callable[[np.random.Generator, int], NDArray[np.float64]]


def plain(chance: np.random.Generator, count: int) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = chance.normal(0, 0.05, count)
    return logs


def heavy(chance: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Now and then a tick takes many times as long."""
    logs: NDArray[np.float64] = np.abs(chance.standard_t(2, count)) * 0.05
    return logs


def drifting(chance: np.random.Generator, count: int) -> NDArray[np.float64]:
    """The processor gets slower or faster from the first tick to the last."""
    return np.linspace(0, chance.normal(0, 0.1), count) + chance.normal(0, 0.02, count)


def wandering(chance: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.cumsum(chance.normal(0, 0.01, count)) + chance.normal(0, 0.02, count)


@pytest.mark.parametrize(
    ("source", "count", "most"),
    [
        *((plain, 16, 0.06), (plain, 64, 0.06), (plain, 256, 0.06), (heavy, 64, 0.06)),
        *((drifting, 64, 0.12), (drifting, 256, 0.06), (wandering, 64, 0.12)),
    ],
)
def test_noise_is_seldom_taken_for_a_difference(source: Source, count: int, most: float) -> None:
    chance = np.random.default_rng(11)
    runs = [made(1e4 * np.exp(source(chance, count))) for _ in range(800)]
    told = [difference(a, b).p < 0.05 for a, b in zip(runs[::2], runs[1::2])]
    assert np.mean(told) <= most


@pytest.mark.parametrize("source", [plain, heavy])
def test_what_is_larger_than_the_noise_is_found(source: Source) -> None:
    chance = np.random.default_rng(12)
    runs = [made(1e4 * np.exp(source(chance, 128))) for _ in range(200)]
    slower = [made(1.1e4 * np.exp(source(chance, 128))) for _ in range(200)]
    found = [difference(a, b) for a, b in zip(runs, slower)]
    assert np.mean([each.p < 0.05 for each in found]) > 0.95
    assert np.mean([each.low < 1.1 < each.high for each in found]) > 0.9


def test_a_step_as_large_as_a_drift_is_told_and_the_drift_is_not() -> None:
    slope = np.linspace(0, 0.1, 64)
    chance = np.random.default_rng(13)
    noise = [chance.normal(0, 0.01, 64) for _ in range(3)]
    start = made(1e4 * np.exp(noise[0]))
    assert difference(start, made(1e4 * np.exp(slope + noise[1]))).p > 0.05
    assert difference(start, made(1e4 * np.exp(0.05 + noise[2]))).p < 0.001


def test_growth_with_the_context_is_taken_out() -> None:
    chance = np.random.default_rng(14)
    contexts = np.arange(100.0, 228.0)

    def run(factor: float) -> Blocks:
        times = factor * 50 * contexts * np.exp(chance.normal(0, 0.02, 128))
        return made(times, contexts)

    same, slower = difference(run(1), run(1), by_context=True), (run(1), run(1.05))
    assert same.p > 0.05
    assert difference(*slower, by_context=True).p < 0.001
    assert difference(*slower).p > 0.05, "or this test shows nothing"
