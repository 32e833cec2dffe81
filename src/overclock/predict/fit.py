"""From measured times of kernels to formulas: non-negative least squares of relative errors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

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

    moved: bytes of weights and KV that the whole run goes through; bytes_per_second: what memory
    gives for so many
    """

    work: Work
    load: Lengths
    seconds: float
    moved: float
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """Where a prediction holds.

    moved: bytes of weights and KV that the whole run goes through
    bandwidth: bytes/s that the computer that was measured gives for so many bytes
    scale: how the computer in question compares with it
    """

    threads: int
    moved: float
    bandwidth: Callable[[float], float]
    scale: Scale = field(default_factory=Scale)

    @property
    def bytes_per_second(self) -> float:
        """What memory gives."""
        return self.bandwidth(self.moved) * self.scale.memory


@dataclass(frozen=True, slots=True)
class RowTable:
    """A kernel that works row by row, in runs that go through about as many bytes.

    rows: numbers of rows that were measured, rising
    weights: for each of them, seconds of 1 and of each of `RowWork.sizes`
    moved: bytes that the runs went through
    """

    rows: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    moved: float

    def seconds(self, work: RowWork, rows: int, threads: int) -> float:
        """The time of one instruction over so many rows, which is on a line between two tables."""
        place = bisect_left(self.rows, rows)
        if place < len(self.rows) and self.rows[place] == rows:
            return self._at(place, work, rows, threads)
        if len(self.rows) == 1:
            return self._at(0, work, rows, threads)
        high = min(max(place, 1), len(self.rows) - 1)
        low = high - 1
        first, second = (self._at(each, work, rows, threads) for each in (low, high))
        share = (rows - self.rows[low]) / (self.rows[high] - self.rows[low])
        # Beyond the last the line goes on; before the first it stays.
        return first + max(0.0, share) * (second - first)

    def _at(self, place: int, work: RowWork, rows: int, threads: int) -> float:
        constant, *each = self.weights[place]
        varying = sum(weight * size for weight, size in zip(each, work.sizes, strict=True))
        return constant + varying * _imbalance(work, rows, threads)


@dataclass(frozen=True, slots=True)
class RowFit:
    """A kernel that works row by row: with weights that come from nearby, and from far.

    Kernels differ in how much of memory's bandwidth they reach as it gets slower, so those with
    weights were measured with few bytes (`near`) and, with few rows, with many (`far`).
    """

    near: RowTable
    far: RowTable | None = None

    def seconds(self, work: RowWork, rows: int, at: Conditions) -> float:
        """The time of one instruction over so many rows; 0 of none."""
        if rows == 0:
            return 0.0
        near = self.near.seconds(work, rows, at.threads)
        faster = at.scale.int8 if work.is_int8 else at.scale.f32
        if self.far is None:
            return _under(near, work.weight_bytes, self.near.moved, at, faster)
        measured = near + self._farness(at) * (self._from_far(work, rows, at, near) - near)
        reference = min(max(at.moved, self.near.moved), self.far.moved)
        return _under(measured, work.weight_bytes, reference, at, faster)

    def _from_far(self, work: RowWork, rows: int, at: Conditions, near: float) -> float:
        """The time with weights from far; as many times the near one as where it was measured."""
        assert self.far is not None
        last = min(rows, self.far.rows[-1])
        there = self.far.seconds(work, last, at.threads)
        if last == rows:
            return there
        extra = max(0.0, there - self.near.seconds(work, last, at.threads))
        return near + extra  # what memory adds is the same; arithmetic goes on beside it

    def _farness(self, at: Conditions) -> float:
        """0 if memory gives what it gave for the near table, 1 for the far one."""
        assert self.far is not None
        here, near, far = (
            1.0 / at.bandwidth(moved) for moved in (at.moved, self.near.moved, self.far.moved)
        )
        if far <= near:
            return 0.0
        return min(1.0, max(0.0, (here - near) / (far - near)))


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


def fit_rows(samples: Sequence[Sample], threads: int) -> RowTable:
    """The formulas of a kernel that works row by row, one for each number of rows."""
    by_rows: dict[int, list[Sample]] = {}
    for each in samples:
        assert isinstance(each.work, RowWork)
        rows = each.load.rows(each.work.rows)
        if rows:
            by_rows.setdefault(rows, []).append(each)
    counts = tuple(sorted(by_rows))
    weights = tuple(_fit_at(by_rows[count], count, threads) for count in counts)
    return RowTable(counts, weights, float(np.median([each.moved for each in samples])))


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


def _under(measured: float, size: float, moved: float, at: Conditions, faster: float) -> float:
    """What a time becomes under other conditions.

    size: bytes that memory had to give, in runs that went through `moved` in all
    faster: arithmetic, by so many times
    """
    then, now = at.bandwidth(moved), at.bytes_per_second
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
