"""What comes: requests with their times, their numbers of tokens, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import inf, isfinite
from typing import Protocol

import numpy as np

from overclock.errors import InputError
from overclock.simulate.arrivals import BLOCK, FLAT, Process, Profile, units
from overclock.simulate.lengths import Fixed, Lengths

MOST_REQUESTS = 5_000_000
"""More take too much memory."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that comes.

    at: seconds since the beginning
    prompt, output: its tokens, and those of its answer
    prefix: whose first `prefix_tokens` tokens it has; None if it begins like no other
    user: who asks, where that matters
    """

    at: float
    prompt: int
    output: int
    prefix: str | None = None
    prefix_tokens: int = 0
    priority: int = 0
    deadline_s: float | None = None
    user: int = 0


class Source(Protocol):
    """Where requests come from as time goes on."""

    @property
    def next_at(self) -> float:
        """When the next one comes, as far as is known now; infinite for never."""
        ...

    def take(self) -> Arrival:
        """The next one."""
        ...

    def ended(self, arrival: Arrival, at: float) -> None:
        """A request has ended."""
        ...


class Workload(Protocol):
    """A load that can be had again and again, always the same."""

    @property
    def duration(self) -> float:
        """Seconds in which requests come."""
        ...

    @property
    def rate(self) -> float | None:
        """Requests a second in the mean; None if it depends on how they are served."""
        ...

    def at_rate(self, rate: float) -> Workload:
        """The same requests, coming at another rate. Raises InputError if there is none."""
        ...

    def within(self, duration: float) -> Workload:
        """The same, for so many seconds."""
        ...

    def requests(self) -> Iterator[Arrival]:
        """The requests without end, whenever they come."""
        ...

    def source(self) -> Source:
        """From the beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Beginnings in common: `groups` of them, `tokens` long, before the rest of the prompt.

    The n-th most frequent one is 1/n as frequent as the first (Zipf).
    """

    groups: int
    tokens: int

    def __post_init__(self) -> None:
        _check(1 <= self.groups <= 1 << 20, f"{self.groups} groups of prefixes are not possible")
        _check(1 <= self.tokens <= 1 << 20, f"a prefix of {self.tokens} tokens is not possible")

    def draw(self, rng: np.random.Generator, count: int) -> list[str]:
        """Names of groups."""
        weights = 1.0 / np.arange(1, self.groups + 1)
        drawn = rng.choice(self.groups, count, p=weights / weights.sum())
        return [str(number) for number in drawn]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many tokens requests have, and which of them they share."""

    prompt: Lengths = field(default_factory=lambda: Fixed(128))
    output: Lengths = field(default_factory=lambda: Fixed(64))
    prefixes: Prefixes | None = None
    seed: int = 0

    def requests(self) -> Iterator[Arrival]:
        """Requests at time 0, without end; when they come changes nothing about them."""
        prompts, outputs, groups = (np.random.default_rng([self.seed, part]) for part in (1, 2, 3))
        shared = 0 if self.prefixes is None else self.prefixes.tokens
        while True:
            drawn = [self.prompt.draw(prompts, BLOCK), self.output.draw(outputs, BLOCK)]
            names = [None] * BLOCK if self.prefixes is None else self.prefixes.draw(groups, BLOCK)
            for prompt, output, name in zip(drawn[0].tolist(), drawn[1].tolist(), names):
                yield Arrival(0.0, prompt + shared, output, name, shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Requests come at a rate, whether the ones before have been served or not."""

    rate: float
    duration: float
    process: Process = "poisson"
    cv: float = 2.0
    profile: Profile = FLAT
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        _check(_positive(self.rate), f"a rate of {self.rate:g} requests a second is not possible")
        _check(_positive(self.duration), f"a duration of {self.duration:g} s is not possible")
        _check(0 < self.cv <= 100, f"a cv of {self.cv:g} is not possible; above 0 and 100 at most")
        _check(
            self.rate * self.duration <= MOST_REQUESTS,
            f"{self.rate * self.duration:,.0f} requests are more than {MOST_REQUESTS:,}",
        )

    def at_rate(self, rate: float) -> OpenLoop:
        """The same requests, coming at another rate."""
        return replace(self, rate=rate)

    def within(self, duration: float) -> OpenLoop:
        """The same, for so many seconds."""
        return replace(self, duration=duration)

    def requests(self) -> Iterator[Arrival]:
        """The requests without end, whenever they come."""
        return self.sizes.requests()

    def source(self) -> Source:
        """From the beginning."""
        return Stream(self._arrivals())

    def _arrivals(self) -> Iterator[Arrival]:
        rng = np.random.default_rng([self.sizes.seed, 0])
        requests = self.sizes.requests()
        for block in units(self.process, self.cv, rng):
            for at in self.profile.times(block, self.rate).tolist():
                if at > self.duration:
                    return
                yield replace(next(requests), at=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """Each of `users` asks, waits for the answer, thinks for a while, and asks again.

    think: seconds of thinking in the mean; they are distributed exponentially
    """

    users: int
    think: float
    duration: float
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        _check(1 <= self.users <= 1 << 20, f"{self.users} users are not possible")
        _check(isfinite(self.think) and self.think >= 0, f"to think {self.think:g} s is impossible")
        _check(_positive(self.duration), f"a duration of {self.duration:g} s is not possible")

    @property
    def rate(self) -> None:
        """It follows from how fast answers come."""
        return

    def at_rate(self, rate: float) -> ClosedLoop:
        """InputError: there is no rate to change."""
        raise InputError(
            "users who wait for their answers have no rate of their own; choose other arrivals"
        )

    def within(self, duration: float) -> ClosedLoop:
        """The same, for so many seconds."""
        return replace(self, duration=duration)

    def requests(self) -> Iterator[Arrival]:
        """The requests without end, whenever they come."""
        return self.sizes.requests()

    def source(self) -> Source:
        """From the beginning."""
        return Users(self)


class Stream:
    """Requests whose times are known before."""

    def __init__(self, arrivals: Iterator[Arrival]) -> None:
        self._arrivals = arrivals
        self._next = next(arrivals, None)
        self.next_at = inf if self._next is None else self._next.at

    def take(self) -> Arrival:
        """The next one."""
        taken = self._next
        assert taken is not None, "no more requests come"
        self._next = next(self._arrivals, None)
        self.next_at = inf if self._next is None else self._next.at
        return taken

    def ended(self, arrival: Arrival, at: float) -> None:
        """Nothing follows from it."""


class Users:
    """Who asks again when an answer has come. They begin one think time after the beginning."""

    def __init__(self, loop: ClosedLoop) -> None:
        self._loop = loop
        self._requests = loop.sizes.requests()
        self._rng = np.random.default_rng([loop.sizes.seed, 0])
        self._due: list[tuple[float, int]] = []
        for user in range(loop.users):
            self._think(user, 0.0)

    @property
    def next_at(self) -> float:
        """When the next one comes, as far as is known now."""
        return self._due[0][0] if self._due else inf

    def take(self) -> Arrival:
        """The next one."""
        at, user = heappop(self._due)
        return replace(next(self._requests), at=at, user=user)

    def ended(self, arrival: Arrival, at: float) -> None:
        """Its user begins to think."""
        self._think(arrival.user, at)

    def _think(self, user: int, since: float) -> None:
        at = since + self._rng.exponential(self._loop.think)
        if at <= self._loop.duration:
            heappush(self._due, (at, user))


def _positive(value: float) -> bool:
    return isfinite(value) and value > 0


def _check(is_possible: bool, message: str) -> None:
    if not is_possible:
        raise InputError(message)
