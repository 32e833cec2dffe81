"""From which load on a computer is too slow, what a latency target allows, what a demand needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite

from overclock.errors import InputError
from overclock.simulate.run import MOST_REPLICAS, Balance, Result, drive, simulate
from overclock.simulate.station import Setup, Station
from overclock.simulate.workload import Arrival, Workload

EXACT = 0.02
"""The highest rate within a target is found to this part of it."""

ROUNDS = 24
"""While the capacity is measured, each stream has so many requests one after the other."""

LEAST_GAIN = 0.99
"""More replicas are no use if the times become no less than so many times what they were."""

FEWEST = 20
"""A rate at which fewer requests come says nothing."""

LEEWAY = 1.1
"""The capacity may be so many times what was measured: replicas that many more would be in vain."""


@dataclass(frozen=True, slots=True)
class Target:
    """How long requests may take: `percent` of them no longer. None for any time.

    first: seconds to the first token; gap: seconds between tokens

    Raises InputError for a value that is not possible.
    """

    first: float | None = None
    gap: float | None = None
    percent: float = 95.0

    def __post_init__(self) -> None:
        for limit in (self.first, self.gap):
            if limit is not None and not (isfinite(limit) and limit > 0):
                raise InputError(f"a target of {limit:g} s is not possible; it must be above 0")
        if not 0 < self.percent <= 100:
            raise InputError(f"{self.percent:g} % of requests is impossible; above 0, 100 at most")

    def excess(self, result: Result) -> float:
        """The times that are asked about by what they may be; the worse one."""
        pairs = ((result.first, self.first), (result.gap, self.gap))
        return max(
            (each.percentile(self.percent) / limit for each, limit in pairs if limit is not None),
            default=0.0,
        )

    def is_met(self, result: Result) -> bool:
        """Whether a load is served within it: steadily, with nobody refused or late."""
        return (
            result.is_stable
            and not result.refused
            and not result.late
            and not _exceeds(result.first.percentile(self.percent), self.first)
            and not _exceeds(result.gap.percentile(self.percent), self.gap)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The best of what was tried, None if nothing was good enough, and all of it in order."""

    best: Result | None
    tried: list[Result]


class Crowd:
    """More and more requests, until so many are there at any time.

    It begins with one, since what a clock knows of its ticks comes from few requests: one that has
    only ever seen a crowd gets less done.
    """

    def __init__(self, workload: Workload, at_once: int, count: int) -> None:
        self._requests = workload.requests()
        self._left = count
        self._missing = at_once - 1
        self._due = [0.0]

    @property
    def next_at(self) -> float:
        """When the next one comes."""
        return self._due[0] if self._due and self._left else inf

    def take(self) -> Arrival:
        """The next one."""
        self._left -= 1
        return replace(next(self._requests), at=self._due.pop(0), deadline_s=None)

    def ended(self, arrival: Arrival, at: float) -> None:
        """The next one comes at once, and another one as long as some are missing."""
        self._due += [at] * (2 if self._missing else 1)
        self._missing = max(0, self._missing - 1)


def capacity(setup: Setup, workload: Workload) -> float:
    """Requests a second that a server gets done when there is always one more.

    A load of a lower rate is stable, and one of a higher rate is not: the saturation rule, Baccelli
    & Foss, "On the saturation rule for the stability of queues", 1995. The first and the last
    requests do not count, with which not all streams are busy.
    """
    streams = setup.settings.streams
    at_once = streams + min(streams, setup.settings.queue)
    station = Station(setup)
    drive([station], Crowd(workload, at_once, ROUNDS * streams + 2 * at_once))
    ends = [each.ended for each in station.log.served]
    first, last = at_once, len(ends) - at_once
    return (last - first) / (ends[last] - ends[first])


def sweep(setup: Setup, workload: Workload, rates: Sequence[float]) -> Iterator[Result]:
    """The same requests at several rates."""
    for rate in rates:
        yield simulate(setup, workload.at_rate(rate))


def highest_rate(
    setup: Setup, workload: Workload, target: Target, tell: Callable[[Result], None]
) -> Found:
    """The highest rate at which a target is met, by bisection below the capacity.

    tell: is told of every rate that was tried
    """
    tried: list[Result] = []

    def is_good(rate: float) -> bool:
        tried.append(simulate(setup, workload.at_rate(rate)))
        tell(tried[-1])
        return target.is_met(tried[-1])

    low, high = 0.0, capacity(setup, workload)
    if is_good(high):
        return Found(tried[-1], tried)
    while high - low > EXACT * high and high * workload.duration > FEWEST:
        middle = (low + high) / 2
        if is_good(middle):
            low = middle
        else:
            high = middle
    return Found(_best(tried, target, lambda each: each.nominal), tried)


def fewest_replicas(
    setup: Setup,
    workload: Workload,
    target: Target,
    tell: Callable[[Result], None],
    balance: Balance = "least",
) -> Found:
    """The smallest number of replicas that serve a load within a target.

    Found by doubling from what the capacity asks for, then by bisection. Nothing is found if even
    a request that is alone takes too long. Raises InputError for a load without a rate.
    """
    tried: list[Result] = []

    def is_good(replicas: int) -> bool:
        tried.append(simulate(setup, workload, replicas=replicas, balance=balance))
        tell(tried[-1])
        return target.is_met(tried[-1])

    if workload.rate is None:
        raise InputError("these requests have no rate; choose arrivals that come at one")
    alone = capacity(setup, workload)
    low, high = ceil(workload.rate / (LEEWAY * alone)) - 1, ceil(workload.rate / alone)
    while not is_good(high):
        low, high = high, 2 * high
        if high > MOST_REPLICAS or low > tried[-1].came or _is_hopeless(target, tried):
            return Found(None, tried)
    while high - low > 1:
        middle = (low + high) // 2
        if is_good(middle):
            high = middle
        else:
            low = middle
    return Found(_best(tried, target, lambda each: -each.replicas), tried)


def _is_hopeless(target: Target, tried: list[Result]) -> bool:
    """Whether twice as many replicas changed next to nothing: what is too slow is slow alone."""
    if len(tried) < 2 or not tried[-1].is_stable:
        return False
    before, after = (target.excess(each) for each in tried[-2:])
    return after > LEAST_GAIN * before


def _best(tried: list[Result], target: Target, by: Callable[[Result], float]) -> Result | None:
    return max((each for each in tried if target.is_met(each)), key=by, default=None)


def _exceeds(value: float, limit: float | None) -> bool:
    return limit is not None and value > limit
