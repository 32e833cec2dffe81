"""When requests come: processes of arrivals, and how a rate changes over time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, isfinite, pi
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from overclock.errors import InputError

Process = Literal["poisson", "constant", "burst"]

BLOCK = 1024
"""Numbers drawn at once."""

DAY_STEPS = 48
"""Into so many steps a day is cut: half an hour each of a real one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What the rate is multiplied by: `factors[i]` from `starts[i]` seconds on; starts[0] is 0."""

    starts: tuple[float, ...]
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        rises = all(one < other for one, other in zip(self.starts, self.starts[1:], strict=False))
        numbers = all(isfinite(each) and each >= 0 for each in (*self.starts, *self.factors))
        if not (numbers and rises and self.starts and self.starts[0] == 0 and any(self.factors)):
            raise InputError(
                "a profile must begin at 0 s, go on to later times, and have factors of 0 or more, "
                "not all 0: as in 0:1,600:3,1200:1"
            )

    def times(self, units: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
        """When so many requests ``f64[n]`` have come in the mean, at `rate` times the factors.

        Infinite where that is never.
        """
        starts, factors = np.array(self.starts), rate * np.array(self.factors)
        whole = np.concatenate(([0.0], np.cumsum(np.diff(starts) * factors[:-1])))
        step = np.searchsorted(whole, units, "right") - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            times = starts[step] + (units - whole[step]) / factors[step]
        return np.where(np.isnan(times), np.inf, times)


FLAT = Profile((0.0,), (1.0,))
"""The same rate all the time."""


def day(duration: float, ratio: float) -> Profile:
    """A day in `duration` seconds: the rate goes up and down once, with a mean of 1.

    ratio: the busiest time has so many times the requests of the quietest
    """
    if not (isfinite(ratio) and ratio >= 1):
        raise InputError(f"{ratio:g} is no ratio of the busiest time to the quietest; 1 or more")
    swing = (ratio - 1) / (ratio + 1)
    middles = [(step + 0.5) / DAY_STEPS for step in range(DAY_STEPS)]
    return Profile(
        tuple(duration * step / DAY_STEPS for step in range(DAY_STEPS)),
        tuple(1 - swing * cos(2 * pi * middle) for middle in middles),
    )


def parse_profile(text: str, duration: float) -> Profile:
    """The profile of a text such as ``0:1,600:3`` (seconds and factors) or ``day:4`` (a ratio).

    Raises InputError for anything else.
    """
    try:
        pairs = [part.split(":") for part in text.split(",")]
        if pairs[0][0].strip() == "day":
            [[_, ratio]] = pairs
            return day(duration, float(ratio))
        steps = [(float(start), float(factor)) for start, factor in pairs]
    except ValueError:
        raise InputError(
            f"{text!r} is no profile; write seconds and factors as in 0:1,600:3, or day:4 for a "
            "day whose busiest time has 4 times the requests of the quietest"
        ) from None
    return Profile(tuple(start for start, _ in steps), tuple(factor for _, factor in steps))


def units(process: Process, cv: float, rng: Generator) -> Iterator[NDArray[np.float64]]:
    """Arrivals at a mean rate of one a second, in blocks of rising times without end.

    cv: of a burst, the deviation of the gaps by their mean; Poisson's is 1
    """
    last = 0.0
    while True:
        block = last + np.cumsum(_gaps(process, cv, rng))
        last = float(block[-1])
        yield block


def _gaps(process: Process, cv: float, rng: Generator) -> NDArray[np.float64]:
    match process:
        case "poisson":
            return rng.exponential(1.0, BLOCK)
        case "constant":
            return np.ones(BLOCK)
        case "burst":  # gamma gaps: many short ones, then a long one
            return rng.gamma(1 / cv**2, cv**2, BLOCK)
