"""First stage of a tick: arrivals come in; who is not wanted any more, or out of time, goes."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count

from overclock.clock.roster import Roster
from overclock.clock.sequence import Sequence, Ticket


class Inbox:
    """What was handed in since the last tick. Any thread may add to it."""

    def __init__(self) -> None:
        self.arrivals: deque[Ticket] = deque()
        self.cancellations: deque[Ticket] = deque()


class Fetch:
    """Takes the inbox into the roster."""

    def __init__(self, inbox: Inbox, roster: Roster, aging_s: float) -> None:
        self._inbox = inbox
        self._roster = roster
        self._aging_s = aging_s
        self._numbers = count()
        self._sequences: dict[Ticket, Sequence] = {}
        self._deadlines: list[tuple[float, int, Sequence]] = []

    def __call__(self, now: float) -> None:
        """Run the stage at time `now`."""
        cancellations = len(self._inbox.cancellations)  # their requests have arrived already
        while self._inbox.arrivals:
            self._take(self._inbox.arrivals.popleft())
        for _ in range(cancellations):
            sequence = self._sequences.pop(self._inbox.cancellations.popleft(), None)
            if sequence is not None and not sequence.ended:
                self._roster.end(sequence, "cancelled")
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, sequence = heappop(self._deadlines)
            if not sequence.ended:
                self._roster.end(sequence, "deadline")

    def forget(self, ticket: Ticket) -> None:
        """A request has ended."""
        self._sequences.pop(ticket, None)
        if len(self._deadlines) > 64 + 2 * len(self._sequences):
            self._deadlines = [each for each in self._deadlines if not each[2].ended]
            self._deadlines.sort()

    def _take(self, ticket: Ticket) -> None:
        request = ticket.request
        number = next(self._numbers)
        # All age alike, so a step of priority is the same as having come earlier: the order
        # among those that wait never changes, and nobody starves.
        key = (ticket.arrived - request.priority * self._aging_s, number)
        sequence = Sequence(ticket, key)
        self._sequences[ticket] = sequence
        if sequence.deadline is not None:
            heappush(self._deadlines, (sequence.deadline, number, sequence))
        self._roster.wait(sequence)
