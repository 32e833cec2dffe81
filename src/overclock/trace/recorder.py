"""Keeps the records of a clock from one moment to another."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from overclock.trace.record import RequestRecord, TickRecord


class Recorder:
    """An observer that remembers all.

    began, ended: of what was recorded, by the clock's own time
    """

    wants_detail = True

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self.ticks: list[TickRecord] = []
        self.requests: list[RequestRecord] = []
        self._now = now
        self.began = now()
        self.ended = self.began

    def start(self) -> None:
        """Forget what was; it begins now."""
        self.ticks.clear()
        self.requests.clear()
        self.began = self.ended = self._now()

    def stop(self) -> None:
        """It ends now."""
        self.ended = self._now()

    def tick(self, record: TickRecord) -> None:
        """Remember a tick."""
        self.ticks.append(record)

    def request(self, record: RequestRecord) -> None:
        """Remember a request."""
        self.requests.append(record)
