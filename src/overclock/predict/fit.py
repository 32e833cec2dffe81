"""From measured times of kernels to formulas: non-negative least squares of relative errors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, combinations

import numpy as np
from numpy.typing import NDArray

from overclock.predict.kernels import AttendWork, Features, Lengths, RowWork, Work
from overclock.predict.sheet import Scale

BLEND = 3.0
"""How sharply a kernel turns from bound by arithmetic to bound by memory: the power of the mean
that both times are put together by. Two equal times make 1.26 of one."""

NEAR_BYTES = 64 << 20
"""What a run goes through at least to be measured: more than a core's own caches hold."""

BLOCK_ROWS = 512
"""Rows that share an unpacked panel: more are further pieces for the threads."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One kernel's measured time in one batch.

    moved: bytes of weights and KV that the whole run goes through; bytes_per_second: what memory
    gives for so many; farness: seconds that a byte takes longer than it would from nearby
    """

    work: Work
    load: Lengths
    seconds: float
    moved: float
    bytes_per_second: float
    farness: float = 0.0


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

    @property
    def farness(self) -> float:
        """Seconds that a byte takes longer than it would from nearby."""
        return farness(self.bandwidth, self.moved) / self.scale.memory


def farness(bandwidth: Callable[[float], float], moved: float) -> float:
    """Seconds that a byte takes longer in a run through `moved` bytes than from nearby."""
    return max(0.0, 1.0 / bandwidth(moved) - 1.0 / bandwidth(NEAR_BYTES))


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

    def times(self, work: RowWork, threads: int) -> list[float]:
        """The times at all `rows` as they were measured; they never fall."""
        found = []
        for rows, (constant, *each) in zip(self.rows, self.weights, strict=True):
            varying = sum(weight * size for weight, size in zip(each, work.sizes, strict=True))
            found.append(constant + varying * _imbalance(work, rows, threads))
        return list(accumulate(found, max))

    def between(self, times: Sequence[float], rows: int) -> float:
        """The time over so many rows, from those at `rows`, in proportion beyond; 0 of none."""
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


@dataclass(frozen=True, slots=True)
class RowFit:
    """A kernel that works row by row: with weights that come from nearby, and from far.

    Kernels differ in how much of memory's bandwidth they reach as it gets slower, so those with
    weights were measured with few bytes (`near`) and, with few rows, with many (`far`).
    """

    near: RowTable
    far: RowTable | None = None

    def seconds(self, work: RowWork, rows: int, at: Conditions) -> float:
        """The time of one instruction over so many rows; 0 of none, and never less for more."""
        return self.between(self.times(work, at), rows)

    def times(self, work: RowWork, at: Conditions) -> list[float]:
        """The times at the numbers of rows that were measured nearby; they never fall.

        Both ends come under the conditions first, and then a time between them is taken: so it is
        never less than with weights from nearby, whatever the other computer is like.
        """
        near = self.near.times(work, at.threads)
        if self.far is None:
            return list(accumulate(self._under(near, work, self.near.moved, at), max))
        far = self._far_times(work, near, at.threads)
        low = replace(at, moved=min(at.moved, self.near.moved))
        high = replace(at, moved=max(at.moved, self.far.moved))
        pairs = zip(
            self._under(near, work, self.near.moved, low),
            self._under(far, work, self.far.moved, high),
            strict=True,
        )
        share = _share(at, self.near.moved, self.far.moved)
        return list(accumulate((less + share * max(0.0, more - less) for less, more in pairs), max))

    def between(self, times: Sequence[float], rows: int) -> float:
        """The time over so many rows, from those of `times`."""
        return self.near.between(times, rows)

    def _far_times(self, work: RowWork, near: Sequence[float], threads: int) -> list[float]:
        """The times with weights from far, at the numbers of rows that were measured nearby.

        With more rows than were measured from far, these take longer by what the most of them did:
        arithmetic goes on beside it.
        """
        assert self.far is not None
        far = self.far.times(work, threads)
        found = []
        for rows, nearby in zip(self.near.rows, near, strict=True):
            last = min(rows, self.far.rows[-1])
            more = self.far.between(far, last) - self.near.between(near, last)
            found.append(nearby + max(0.0, more))
        return found

    def _under(
        self, times: Sequence[float], work: RowWork, moved: float, at: Conditions
    ) -> Iterator[float]:
        """What times in runs through `moved` bytes become under other conditions."""
        faster = at.scale.int8 if work.is_int8 else at.scale.f32
        then, now = at.bandwidth(moved), at.bytes_per_second
        for time, (constant, *_) in zip(times, self.near.weights, strict=True):
            moving = _under(time - constant, work.weight_bytes, then, now, faster)
            yield constant / faster + moving


def _share(at: Conditions, near: float, far: float) -> float:
    """How far weights come: 0 if memory gives what it gives for `near` bytes, 1 for `far`."""
    here, there, farthest = (1.0 / at.bandwidth(moved) for moved in (at.moved, near, far))
    if farthest <= there:
        return 0.0
    return min(1.0, max(0.0, (here - there) / (farthest - there)))


@dataclass(frozen=True, slots=True)
class SumFit:
    """A kernel whose time is linear in features of the batch; the last two are of KV's bytes."""

    weights: tuple[float, ...]

    def seconds(self, work: Work, load: Lengths, at: Conditions) -> float:
        """The time of one instruction."""
        features = features_of(work, load, at.threads, at.bytes_per_second, at.farness)
        parts = features * np.array(self.weights)
        memory = parts[-2:].sum() if isinstance(work, AttendWork) else 0.0
        return float(memory + (parts.sum() - memory) / at.scale.f32)


Fit = RowFit | SumFit


def features_of(
    work: Work, load: Lengths, threads: int, bytes_per_second: float, farness: float
) -> NDArray[np.float64]:
    """What an attention's time is linear in.

    Of KV pages the last two are the time of reading them, and how much of it is because they come
    from far: the kernel asks ahead for what is near, and waits for the rest.
    """
    assert not isinstance(work, RowWork)
    own = work.features(load, threads)
    if isinstance(work, AttendWork):
        size = work.kv_bytes(load)
        return np.append(own, (size / bytes_per_second, size * farness))
    return own


def fit_sums(samples: Sequence[Sample], threads: int) -> SumFit:
    """The formula of an attention."""
    rows = [features_of(s.work, s.load, threads, s.bytes_per_second, s.farness) for s in samples]
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


def _under(measured: float, size: float, then: float, now: float, faster: float) -> float:
    """What a time, without a kernel's start, becomes under other conditions.

    size: bytes that memory had to give; then, now: bytes/s that it gave, and gives
    faster: arithmetic, by so many times
    """
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
