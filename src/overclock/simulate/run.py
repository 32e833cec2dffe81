"""A load on one clock or several, in virtual time; what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf, sqrt
from typing import Literal

import numpy as np

from overclock.errors import InputError
from overclock.simulate.measure import Sample, Steps, count_steps, mean_between
from overclock.simulate.station import Log, Served, Setup, Station
from overclock.simulate.workload import Arrival, Source, Workload

Balance = Literal["least", "round-robin", "random"]
"""Who gets a request: the replica with the fewest, the next in turn, or any."""

MOST_REPLICAS = 4096

RETRY_S = 1.0
"""A user who was refused waits so long before all else."""

PILED_UP = 0.05
"""A load is unstable if more than this part of what comes is left lying …"""

CHANCE = 2.0
"""… and more than so many standard deviations of how many come by chance (Poisson)."""

Progress = Callable[[float, float], None]
"""Told seconds done and seconds in all."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a load was like. Times are in seconds of the virtual time, from the first arrival on.

    came: requests; seconds: until the last one had ended
    refused: found the queue full; late: not done by their deadline; cut: longer than the context;
        preempted: times that one had to give its KV pages back
    first: to the first token; gap: between tokens of one request; latency: to the last token;
    wait: until a request got KV pages
    queue: requests that wait; inside: requests that wait or run, each by how long there were so
        many; kv: share of the KV pages that requests hold
    busy: share of the time in which a replica ticked; cached: share of the prompts' tokens that
        were in KV pages already
    is_stable: whether it is served as fast as it comes; see the function of this name
    """

    workload: Workload
    replicas: int
    came: int
    seconds: float
    prompt_tokens: int
    tokens: int
    refused: int
    late: int
    cut: int
    preempted: int
    first: Sample
    gap: Sample
    latency: Sample
    wait: Sample
    queue: Sample
    inside: Sample
    kv: Sample
    queue_steps: Steps
    busy: float
    cached: float
    ticks: int
    is_stable: bool

    @property
    def ended(self) -> int:
        """Requests that got their whole answer."""
        return len(self.latency.values)

    @property
    def rate(self) -> float:
        """Requests a second that came; `nominal` is what was asked for, if a rate was."""
        return self.came / self.workload.duration if self.workload.duration else inf

    @property
    def nominal(self) -> float:
        """The rate of the workload, or what came if it has none."""
        return self.rate if self.workload.rate is None else self.workload.rate

    @property
    def throughput(self) -> float:
        """Requests a second that ended."""
        return self.ended / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of answers a second."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def prompt_tokens_per_second(self) -> float:
        """Tokens of prompts a second, with those from KV pages."""
        return self.prompt_tokens / self.seconds if self.seconds else 0.0


def simulate(
    setup: Setup,
    workload: Workload,
    *,
    replicas: int = 1,
    balance: Balance = "least",
    progress: Progress | None = None,
) -> Result:
    """Let a load come until its end, and all of it be served.

    replicas: so many clocks, each on a computer of its own

    Raises InputError for an impossible number of replicas.
    """
    if not 1 <= replicas <= MOST_REPLICAS:
        raise InputError(f"{replicas} replicas are not possible; 1 to {MOST_REPLICAS} are")
    stations = [Station(setup) for _ in range(replicas)]
    came = drive(stations, workload.source(), balance, _telling(progress, workload.duration))
    return result_of(workload, [station.log for station in stations], came)


def drive(
    stations: Sequence[Station],
    source: Source,
    balance: Balance = "least",
    progress: Callable[[float], None] = lambda now: None,
) -> list[Arrival]:
    """Hand out what comes, and tick whoever is furthest behind; all that came, in order."""
    choose = _chooser(stations, balance)
    came: list[Arrival] = []
    while True:
        station = min(stations, key=_due) if len(stations) > 1 else stations[0]
        if source.next_at <= station.due:
            if source.next_at == inf:
                return came
            arrival = source.take()
            came.append(arrival)
            if not choose().submit(arrival):
                source.ended(arrival, arrival.at + RETRY_S)
            progress(arrival.at)
        else:
            for served in station.tick(source.next_at):
                source.ended(served.arrival, served.ended)


def _due(station: Station) -> float:
    return station.due


def _chooser(stations: Sequence[Station], balance: Balance) -> Callable[[], Station]:
    if len(stations) == 1:
        return lambda: stations[0]
    match balance:
        case "least":
            return lambda: min(stations, key=lambda each: each.load)
        case "round-robin":
            turns = count()
            return lambda: stations[next(turns) % len(stations)]
        case "random":
            rng = np.random.default_rng(len(stations))
            return lambda: stations[int(rng.integers(len(stations)))]


def _telling(progress: Progress | None, duration: float) -> Callable[[float], None]:
    """Progress, told every hundredth."""
    told = 0

    def tell(now: float) -> None:
        nonlocal told
        if progress is not None and duration and now * 100 >= told * duration:
            told = int(now * 100 / duration) + 1
            progress(now, duration)

    return tell


def result_of(workload: Workload, logs: Sequence[Log], came: Sequence[Arrival]) -> Result:
    """What is to be said of a load, from what was noted at each server."""
    served = [each for log in logs for each in log.served]
    whole = [each for each in served if each.finish == "length"]
    start = came[0].at if came else 0.0
    end = max((each.ended for each in served), default=start)
    inside = count_steps([each.at for each in came], [each.ended for each in served])
    queue = _queue(served)
    return Result(
        workload=workload,
        replicas=len(logs),
        came=len(came),
        seconds=end - start,
        prompt_tokens=sum(each.arrival.prompt for each in whole),
        tokens=sum(each.tokens for each in served),
        refused=sum(len(log.refused) for log in logs),
        late=len(served) - len(whole),
        cut=sum(log.cut for log in logs),
        preempted=sum(log.preempted for log in logs),
        first=Sample.of(each.first - each.arrival.at for each in served if each.first is not None),
        gap=Sample.of(
            (gap for log in logs for gap in log.gaps), [n for log in logs for n in log.times]
        ),
        latency=Sample.of(each.ended - each.arrival.at for each in whole),
        wait=Sample.of(each.admitted - each.arrival.at for each in served),
        queue=queue.sample(end),
        inside=inside.sample(end),
        kv=_kv(logs, end),
        queue_steps=queue,
        busy=sum(log.busy for log in logs) / (len(logs) * (end - start)) if end > start else 0.0,
        cached=_share(
            sum(each.cached for each in served), sum(each.arrival.prompt for each in served)
        ),
        ticks=sum(log.ticks for log in logs),
        is_stable=is_stable(inside, workload.duration, len(came)),
    )


def is_stable(inside: Steps, duration: float, came: int) -> bool:
    """Whether a load is served as fast as it comes.

    inside: requests that came and have not been served, those that were refused among them

    The time of the arrivals is cut into quarters. A load is unstable if there are more inside from
    each of the last three quarters to the next, by more in all than `PILED_UP` of what came
    meanwhile and than chance explains.
    """
    if not came or not duration:
        return True
    ends = np.linspace(0.0, duration, 5)
    _, second, third, last = (mean_between(inside, ends[i], ends[i + 1]) for i in range(4))
    meanwhile = came / 2
    enough = max(PILED_UP * meanwhile, CHANCE * sqrt(meanwhile))
    return not (second < third < last and last - second > enough)


def _queue(served: Sequence[Served]) -> Steps:
    return count_steps([each.arrival.at for each in served], [each.admitted for each in served])


def _kv(logs: Sequence[Log], end: float) -> Sample:
    """Share of the pages that are held, over all servers' times."""
    values: list[float] = []
    weights: list[float] = []
    for log in logs:
        sample = log.pages.sample(end)
        values += (sample.values / log.page_count).tolist()
        weights += sample.weights.tolist()
    return Sample.of(values, weights)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
