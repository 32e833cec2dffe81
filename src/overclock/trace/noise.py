"""Is a difference larger than the noise? The statistics of two runs, in plain Python.

Times are compared by their logarithms: noise on a computer multiplies. What is observed is not a
tick but the median of a block of consecutive ticks, so that whatever changes slowly inside a run
(another program, a processor that gets hot) counts as noise; and blocks that resemble the one
before them count as fewer than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isinf, lgamma, log, sqrt

import numpy as np
from numpy.typing import NDArray

BLOCKS = 16
"""Most blocks that a run is cut into."""

LEAST_BLOCKS = 4
BLOCK_TICKS = 4
"""Fewest ticks of a block."""

LEAST_NEWS = 2.0
"""What blocks count as that all follow from the one before."""

DEGREE = 2
"""Of the polynomial by which the logarithm of a time grows with the context."""

CONFIDENCE = 0.95

LARGEST = 700.0
"""Logarithm of a ratio that is as good as infinite."""

RESOLUTION_NS = 1.0
"""Times are noted in whole numbers of it, so equal ones may differ by as much."""


@dataclass(frozen=True, slots=True)
class Difference:
    """B against A: the ratio of their times, its confidence interval, and how likely so much is.

    p: probability of a ratio at least as far from 1 if nothing had changed
    """

    ratio: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Blocks:
    """Logarithms of the medians of consecutive blocks, and what they are held against.

    logs: ``f64[k]``; contexts: ``f64[k]``, the mean number of tokens in the KV pages
    """

    logs: NDArray[np.float64]
    contexts: NDArray[np.float64]


def blocks(times: NDArray[np.float64], contexts: NDArray[np.float64]) -> Blocks | None:
    """Blocks of ``times f64[n]`` (ns, above 0) in their order; None if there are too few."""
    count = min(BLOCKS, len(times) // BLOCK_TICKS)
    if count < LEAST_BLOCKS:
        return None
    medians = [np.median(part) for part in np.array_split(times, count)]
    means = [part.mean() for part in np.array_split(contexts, count)]
    return Blocks(np.log(np.array(medians)), np.array(means))


def difference(a: Blocks, b: Blocks, *, by_context: bool = False) -> Difference:
    """Welch's test of two runs (B. L. Welch, 1947) with fewer observations if they hang together.

    by_context: times grow with the context; what it explains in both runs alike is taken out first
    """
    first, second = _level(a, b) if by_context else (a.logs, b.logs)
    change = float(second.mean() - first.mean())
    fitted = DEGREE / 2 if by_context else 0.0
    parts = [_error(each, fitted) for each in (first, second)]
    error = sum(square for square, _ in parts)
    freedom = error**2 / sum(square**2 / free for square, free in parts)
    reach = t_quantile(CONFIDENCE, freedom) * sqrt(error)
    p = t_tails(change / sqrt(error), freedom)
    return Difference(exp(change), exp(change - reach), exp(min(LARGEST, change + reach)), p)


def benjamini_hochberg(probabilities: Sequence[float]) -> list[float]:
    """Each probability as it counts among all (Y. Benjamini, Y. Hochberg, 1995).

    Of those that are then below x, a share of at most x is expected to be chance.
    """
    order = sorted(range(len(probabilities)), key=lambda place: -probabilities[place])
    found = [1.0] * len(probabilities)
    least = 1.0
    for rank, place in zip(range(len(order), 0, -1), order):
        least = min(least, probabilities[place] * len(order) / rank)
        found[place] = least
    return found


def t_tails(t: float, freedom: float) -> float:
    """Probability that Student's t is at least as far from 0 as `t`."""
    if isinf(t):
        return 0.0
    if t * t < freedom:  # near 1, the complement is what is known exactly
        return 1 - incomplete_beta(0.5, freedom / 2, t * t / (freedom + t * t))
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def t_quantile(confidence: float, freedom: float) -> float:
    """The t within which a share `confidence` of Student's distribution lies."""
    low, high = 0.0, 1.0
    while t_tails(high, freedom) > 1 - confidence:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if t_tails(middle, freedom) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b) of a, b > 0 and 0 ≤ x ≤ 1.

    By its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22), which is
    evaluated by Lentz's method and converges fast on the side of the mean that x is turned to.
    """
    if x <= 0 or x >= 1:
        return min(1.0, max(0.0, x))
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)
    return min(1.0, exp(front) * _fraction(a, b, x) / a)


def _fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + …))) by J. M. Thompson and A. R. Barnett's form of Lentz."""
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 1000):
        part = _coefficient(a, b, x, step)
        d = 1 / (1 + part * d or tiny)
        c = 1 + part / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return 1 / value


def _coefficient(a: float, b: float, x: float, step: int) -> float:
    m, odd = divmod(step, 2)
    if odd:
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))


def _error(logs: NDArray[np.float64], fitted: float) -> tuple[float, float]:
    """The squared standard error of a mean of blocks, and its degrees of freedom.

    fitted: how many numbers were fitted to the blocks beside their mean
    """
    off = logs - logs.mean()
    count = max(LEAST_NEWS, len(logs) * _independence(off))
    variance = float(off @ off) / (len(logs) - 1 - fitted)
    rounding = (RESOLUTION_NS / float(np.exp(logs.mean()))) ** 2 / 12
    freedom = (count - 1) * (len(logs) - 1 - fitted) / (len(logs) - 1)
    return (variance + rounding) / count, freedom


def _independence(off: NDArray[np.float64]) -> float:
    """What share of blocks are news: (1 - r) / (1 + r) for the correlation r of neighbours.

    In few blocks r looks smaller than it is, by about (1 + 3 r) / k (M. G. Kendall, 1954).
    """
    squares = float(off @ off)
    if squares == 0:
        return 1.0
    r = float(off[1:] @ off[:-1]) / squares
    r = min(1.0, max(0.0, r + (1 + 3 * r) / len(off)))
    return (1 - r) / (1 + r)


def _level(a: Blocks, b: Blocks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both runs as they were at the same contexts, by the one parabola that fits both best."""
    both = np.concatenate([a.contexts, b.contexts])
    scale = float(np.ptp(both)) or 1.0
    x = [(each.contexts - both.mean()) / scale for each in (a, b)]
    powers = [np.stack([each**n for n in range(1, DEGREE + 1)], axis=1) for each in x]
    rows = np.concatenate([each - each.mean(axis=0) for each in powers])
    logs = np.concatenate([each.logs - each.logs.mean() for each in (a, b)])
    slopes = np.linalg.lstsq(rows, logs, rcond=None)[0]
    return a.logs - powers[0] @ slopes, b.logs - powers[1] @ slopes
