"""Where a clock has its time from: this computer, or nowhere but its own machine."""

from __future__ import annotations

from time import perf_counter
from typing import Protocol


class Time(Protocol):
    """Seconds since some moment; they never go back."""

    def now(self) -> float:
        """The time in seconds."""
        ...


class RealTime:
    """The time of this computer."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return perf_counter()


class VirtualTime:
    """Time that passes when it is told to: by `VirtualMachine(advance=…)`, or by who waits."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Seconds since the beginning."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass (0 or more)."""
        assert seconds >= 0.0, f"time cannot go back by {-seconds} s"
        self._now += seconds
