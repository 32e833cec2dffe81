"""What a run was like: the numbers of a sample, and how often each came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-12
"""By so much of itself a sum of weights may be wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Values in rising order, ``f64[n]``, each with its weight above 0, ``f64[n]``.

    A weight is a number of times, or of seconds.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, values: Iterable[float], weights: Sequence[float] | None = None) -> Sample:
        """A sample of values in any order; all weigh the same if nothing else is said."""
        numbers = np.fromiter(values, np.float64)
        heavy = np.ones(len(numbers)) if weights is None else np.array(weights, np.float64)
        order = np.argsort(numbers, kind="stable")
        order = order[heavy[order] > 0]
        return cls(numbers[order], heavy[order])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not len(self.values)

    def percentiles(self, percents: Sequence[float]) -> list[float]:
        """The lowest values that so many hundredths of the weight do not exceed; NaN if empty."""
        if self.is_empty:
            return [float("nan")] * len(percents)
        total = np.cumsum(self.weights)
        wanted = np.array(percents) / 100 * total[-1] * (1 - ROUNDING)
        at = np.minimum(np.searchsorted(total, wanted), len(self.values) - 1)
        found: list[float] = self.values[at].tolist()
        return found

    def percentile(self, percent: float) -> float:
        """One of the `percentiles`."""
        return self.percentiles([percent])[0]

    @property
    def mean(self) -> float:
        """The mean; NaN if it is empty."""
        if self.is_empty:
            return float("nan")
        return float(np.average(self.values, weights=self.weights))

    @property
    def most(self) -> float:
        """The highest value; NaN if it is empty."""
        return float("nan") if self.is_empty else float(self.values[-1])


class Steps:
    """A number that changes from time to time."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.values: list[float] = []

    def note(self, at: float, value: float) -> None:
        """It is `value` from `at` on, which is no earlier than the last change."""
        if not self.values or self.values[-1] != value:
            self.times.append(at)
            self.values.append(value)

    def sample(self, until: float) -> Sample:
        """The values, weighted by how long each lasted until then."""
        times = np.minimum(np.array([*self.times, until]), until)
        return Sample.of(self.values, np.diff(times).tolist())


def count_steps(came: Sequence[float], went: Sequence[float]) -> Steps:
    """How many are there: one more at each time of `came`, one less at each of `went`."""
    changes = np.concatenate((np.ones(len(came)), -np.ones(len(went))))
    times = np.concatenate((np.array(came, np.float64), np.array(went, np.float64)))
    order = np.lexsort((-changes, times))  # who comes and goes at once was there
    steps = Steps()
    ordered = times[order]
    counts = np.cumsum(changes[order])
    last = np.diff(ordered, append=np.inf) > 0  # of those at the same time, the last one holds
    for at, value in zip(ordered[last].tolist(), counts[last].tolist()):
        steps.note(at, value)
    return steps


def mean_between(steps: Steps, start: float, stop: float) -> float:
    """The mean of a number from `start` to `stop`; it is 0 before its first change."""
    times = np.clip(np.array([*steps.times, stop]), start, stop)
    return float((np.array(steps.values) * np.diff(times)).sum() / (stop - start))
