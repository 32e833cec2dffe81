"""Who ticks: whoever waits for an answer, as long as nobody else has to; else a thread.

A single request is run by the thread that asked for it, with no other thread to wake for every
token. As soon as several are on their way, or one that nobody waits for, a thread of the driver's
own ticks until all are done, and everybody else waits for its events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from signal import SIGINT, default_int_handler, getsignal, signal
from threading import Condition, Lock, Thread, current_thread, main_thread
from typing import Protocol

from overclock.clock.completion import Completion, Piece, Timing, Usage
from overclock.clock.request import Encoded, Generate, Request
from overclock.clock.roster import Event
from overclock.clock.sequence import Ticket
from overclock.errors import InputError, OverclockError

Deliver = Callable[[Event], None]


class Ticking(Protocol):
    """A clock, as far as it is driven."""

    @property
    def is_busy(self) -> bool:
        """Whether a tick would have something to do."""
        ...

    def submit(self, request: Request) -> Ticket:
        """Hand a request in."""
        ...

    def cancel(self, ticket: Ticket) -> None:
        """Nobody wants it any more."""
        ...

    def tick(self) -> list[Event]:
        """Do the next thing."""
        ...


class Mailbox:
    """Events of one request or several, for one reader."""

    def __init__(self, requests: int = 1) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()
        self.open = requests  # whose last event has not come
        self.take = self._events.get
        self.is_empty = self._events.empty

    def deliver(self, event: Event) -> None:
        """Put an event in."""
        self.open -= event.last
        self._events.put(event)


class Driver:
    """Ticks a clock as long as it has something to do."""

    def __init__(self, clock: Ticking) -> None:
        self._clock = clock
        self._deliver: dict[Ticket, Deliver] = {}
        self._lead = Lock()  # held by whoever ticks
        self._changed = Condition()  # guards what follows
        self._thread: Thread | None = None
        self._is_running = False  # the thread has work, or is about to
        self._closing = False

    def submit(self, request: Request, deliver: Deliver, *, alone: bool = False) -> Ticket:
        """Hand a request in; `deliver` is called for each of its events, in whichever thread ticks.

        alone: the caller is going to `wait` for the events, so no thread has to be woken

        Raises what the clock raises, and InputError if it is closed.
        """
        with self._changed:
            if self._closing:
                raise InputError("this model is closed; open it again")
            ticket = self._clock.submit(request)
            self._deliver[ticket] = deliver
            if not alone:
                self._wake()
        return ticket

    def wait(self, mail: Mailbox) -> Event:
        """The next event of `mail`, whose request was handed in; ticks if nobody else does."""
        while mail.is_empty() and not self._is_running and self._lead.acquire(blocking=False):
            try:
                while mail.is_empty() and not self._is_running:
                    with _uninterrupted():
                        self._tick()
            finally:
                self._lead.release()
                self._leave_others(mail.open)
        return mail.take()

    def cancel(self, ticket: Ticket) -> None:
        """Nobody wants a request any more; its last event says so."""
        with self._changed:
            if ticket not in self._deliver:
                return
            self._clock.cancel(ticket)
            others = self._is_running
        if not others and self._lead.acquire(blocking=False):
            try:
                with _uninterrupted():
                    self._tick()  # its pages come back at once
            finally:
                self._lead.release()
                self._leave_others(0)

    @contextmanager
    def between_ticks(self) -> Iterator[None]:
        """No tick happens inside."""
        with self._lead, _uninterrupted():
            yield
        self._leave_others(0)  # who came meanwhile found the lead taken, and waits

    def close(self) -> None:
        """Take no more requests; those on their way may still end."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def stop(self) -> None:
        """Close, end what is on its way as far as it came, and wait for the thread."""
        with self._changed:
            self._closing = True
            for ticket in list(self._deliver):
                self._clock.cancel(ticket)
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not current_thread():
            thread.join()

    def _wake(self) -> None:
        """Let the thread go on; the condition is held."""
        self._is_running = True
        if self._thread is None:
            self._thread = Thread(target=self._run, name="overclock-clock", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _leave_others(self, mine: int) -> None:
        """Whoever stops ticking leaves what others wait for to the thread."""
        with self._changed:
            if len(self._deliver) > mine:
                self._wake()

    def _run(self) -> None:
        while self._has_work():
            with self._lead:
                self._tick()

    def _has_work(self) -> bool:
        """Sleep until there is work; False when there will be none."""
        with self._changed:
            while not (self._is_running and self._clock.is_busy):
                self._is_running = False
                if self._closing:
                    self._thread = None
                    return False
                self._changed.wait()
            return True

    def _tick(self) -> None:
        """One tick and its events; whoever calls holds the lead."""
        try:
            events = self._clock.tick()
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._break(error)
            return
        if not events:
            return
        with self._changed:  # a request that ends at once may still be on its way into the table
            deliveries = [
                self._deliver.pop(event.ticket) if event.last else self._deliver[event.ticket]
                for event in events
            ]
        for event, deliver in zip(events, deliveries, strict=True):
            deliver(event)

    def _break(self, error: Exception) -> None:
        """The clock cannot go on: every request ends, and no new one is taken."""
        reason = OverclockError(f"the engine stopped: {type(error).__name__}: {error}")
        reason.__cause__ = error
        with self._changed:
            self._closing = True
            self._is_running = False
            waiting, self._deliver = self._deliver, {}
        for ticket, deliver in waiting.items():
            deliver(Event(ticket, _failed(ticket, reason), True))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until a tick is done: half a tick would leave pages with two owners."""
    if current_thread() is not main_thread() or getsignal(SIGINT) is not default_int_handler:
        yield
        return
    came: list[int] = []
    signal(SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal(SIGINT, default_int_handler)
        if came:
            raise KeyboardInterrupt


def _failed(ticket: Ticket, reason: OverclockError) -> Piece | Encoded:
    request = ticket.request
    if not isinstance(request, Generate):
        return Encoded(None, reason)
    usage = Usage(len(request.token_ids), 0)
    timing = Timing(0.0, None, None, None)
    return Piece("", Completion("", [], "error", usage, timing, error=reason))
