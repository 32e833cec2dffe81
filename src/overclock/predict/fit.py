"""From measured times of kernels to formulas: non-negative least squares of relative errors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, combinations

import numpy as np
from numpy.typing import NDArray

from overclock.predict.kernels import AttendWork, Features, Lengths, RowWork, Work
from overclock.predict.sheet import Scale

BLEND = 3.0
"""How sharply a kernel turns from bound by arithmetic to bound by memory: the power of the mean
that both times are put together by. Two equal times make 1.26 of one."""

BLOCK_ROWS = 512
"""Rows that share an unpacked panel: more are further pieces for the threads."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One kernel's measured time in one batch.

    bytes_per_second: what memory gives for all that the run goes through
    """

    work: Work
    load: Lengths
    seconds: float
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """Where a prediction holds.

    bytes_per_second: what memory gives there for all that the run goes through
    scale: how that computer's arithmetic compares with the one that was measured
    """

    threads: int
    bytes_per_second: float
    scale: Scale = field(default_factory=Scale)


@dataclass(frozen=True, slots=True)
class RowFit:
    """A kernel that works row by row.

    rows: numbers of rows that were measured, rising
    weights: for each of them, seconds of 1 and of each of `RowWork.sizes`
    bytes_per_second: what memory gave
    """

    rows: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    bytes_per_second: float

    def seconds(self, work: RowWork, rows: int, at: Conditions) -> float:
        """The time of one instruction over so many rows; 0 of none, and never less for more."""
        return self.between(self.times(work, at), rows)

    def times(self, work: RowWork, at: Conditions) -> list[float]:
        """The times at the numbers of rows that were measured; they never fall."""
        found = (self._at(place, work, at) for place in range(len(self.rows)))
        return list(accumulate(found, max))

    def between(self, times: Sequence[float], rows: int) -> float:
        """The time over so many rows, from those of `times`."""
        if rows == 0:
            return 0.0
        if rows <= self.rows[0]:
            return times[0]
        if rows >= self.rows[-1]:
            return times[-1] * rows / self.rows[-1]
        high = bisect_left(self.rows, rows)
        low = high - 1
        share = (rows - self.rows[low]) / (self.rows[high] - self.rows[low])
        return times[low] + share * (times[high] - times[low])

    def _at(self, place: int, work: RowWork, at: Conditions) -> float:
        constant, *each = self.weights[place]
        varying = sum(weight * size for weight, size in zip(each, work.sizes, strict=True))
        varying *= _imbalance(work, self.rows[place], at.threads)
        faster = at.scale.int8 if work.is_int8 else at.scale.f32
        moving = _under(varying, work.weight_bytes, self.bytes_per_second, at, faster)
        return constant / faster + moving


@dataclass(frozen=True, slots=True)
class SumFit:
    """A kernel whose time is linear in features of the batch, bytes of KV the last one."""

    weights: tuple[float, ...]

    def seconds(self, work: Work, load: Lengths, at: Conditions) -> float:
        """The time of one instruction."""
        features = features_of(work, load, at.threads, at.bytes_per_second)
        parts = features * np.array(self.weights)
        memory = parts[-1] if isinstance(work, AttendWork) else 0.0
        return float(memory + (parts.sum() - memory) / at.scale.f32)


Fit = RowFit | SumFit


def features_of(
    work: Work, load: Lengths, threads: int, bytes_per_second: float
) -> NDArray[np.float64]:
    """What an attention's time is linear in, with the time of reading its KV as the last."""
    assert not isinstance(work, RowWork)
    own = work.features(load, threads)
    if isinstance(work, AttendWork):
        return np.append(own, work.kv_bytes(load) / bytes_per_second)
    return own


def fit_sums(samples: Sequence[Sample], threads: int) -> SumFit:
    """The formula of an attention."""
    rows = [features_of(s.work, s.load, threads, s.bytes_per_second) for s in samples]
    weights = non_negative(np.array(rows), np.array([each.seconds for each in samples]))
    return SumFit(tuple(weights.tolist()))


def fit_rows(samples: Sequence[Sample], threads: int) -> RowFit:
    """The formulas of a kernel that works row by row, one for each number of rows."""
    by_rows: dict[int, list[Sample]] = {}
    for each in samples:
        assert isinstance(each.work, RowWork)
        rows = each.load.rows(each.work.rows)
        if rows:
            by_rows.setdefault(rows, []).append(each)
    counts = tuple(sorted(by_rows))
    weights = tuple(_fit_at(by_rows[count], count, threads) for count in counts)
    bandwidth = float(np.median([each.bytes_per_second for each in samples]))
    return RowFit(counts, weights, bandwidth)


def _fit_at(samples: Sequence[Sample], rows: int, threads: int) -> tuple[float, ...]:
    features, times = [], []
    for each in samples:
        assert isinstance(each.work, RowWork)
        factor = _imbalance(each.work, rows, threads)
        features.append([1.0, *(factor * size for size in each.work.sizes)])
        times.append(each.seconds)
    return tuple(non_negative(np.array(features), np.array(times)).tolist())


def _imbalance(work: RowWork, rows: int, threads: int) -> float:
    """How many times its fair share the busiest thread has, as pieces are not cut."""
    if not work.units:
        return 1.0
    pieces = work.units * -(-rows // BLOCK_ROWS)
    return -(-pieces // threads) * threads / pieces


def _under(measured: float, size: float, then: float, at: Conditions, faster: float) -> float:
    """What a time, without a kernel's start, becomes under other conditions.

    size: bytes that memory had to give, at `then` bytes/s; faster: arithmetic, by so many times
    """
    now = at.bytes_per_second
    if not size:
        return measured / faster
    memory, other = size / then, size / now
    if measured <= memory:
        return measured * then / now
    rest = (measured**BLEND - memory**BLEND) / faster**BLEND
    return float((rest + other**BLEND) ** (1.0 / BLEND))


def non_negative(features: NDArray[np.float64], times: NDArray[np.float64]) -> Features:
    """Weights ≥ 0, ``f64[k]``, with the least squared relative error of ``features f64[n, k]``.

    There are few features, so all choices of those that are not zero are tried.
    """
    scaled = features / times[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    scaled = scaled / np.where(norms > 0, norms, 1.0)
    count = features.shape[1]
    best, least = np.zeros(count), float(len(times))
    for chosen in _subsets(count):
        columns = scaled[:, chosen]
        weights, *_ = np.linalg.lstsq(columns, np.ones(len(times)), rcond=None)
        if (weights < 0).any():
            continue
        error = float(np.square(columns @ weights - 1.0).sum())
        if error < least * (1 - 1e-9):
            least = error
            best = np.zeros(count)
            best[list(chosen)] = weights
    return best / np.where(norms > 0, norms, 1.0)


def _subsets(count: int) -> Iterable[tuple[int, ...]]:
    for size in range(1, count + 1):
        yield from combinations(range(count), size)
