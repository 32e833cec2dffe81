"""What one tick was, and what one request: plain records that a clock hands to who watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from overclock.machine.machine import Batch, Counters


class TickDetail(NamedTuple):
    """What is only noted of a tick while someone watches. Times are in seconds.

    starts: ``i32[S + 1]``, where each sequence's rows begin; contexts: ``i32[S]``, tokens that each
    had before
    adapters: ``i32[S]``, or None for none; selected: rows whose output was wanted
    output: name of the program's output
    counters: what the machine spent on it
    choose, text: of the stage write back, choosing tokens and making text of them
    memory: bytes of this process that were in memory, 0 if that cannot be known
    """

    starts: NDArray[np.int32]
    contexts: NDArray[np.int32]
    adapters: NDArray[np.int32] | None
    selected: int
    output: str
    counters: Counters
    choose: float
    text: float
    memory: int

    @property
    def lengths(self) -> NDArray[np.int32]:
        """New tokens of each sequence, ``i32[S]``."""
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class TickRecord:
    """One tick. Times are in seconds of the clock's own time.

    started: when it began; fetch, decode, execute, write_back: how long each stage took
    rows: tokens that ran, of which `prompt_tokens` were of prompts and `drafts` guessed
    tokens: tokens that answers gained
    running, waiting: requests when it ended
    cached_pages: pages that wait for another use; used_pages: those that requests hold
    detail: None unless someone watches, or if nothing ran
    """

    started: float
    fetch: float
    decode: float
    execute: float
    write_back: float
    rows: int
    prompt_tokens: int
    drafts: int
    tokens: int
    running: int
    waiting: int
    cached_pages: int
    used_pages: int = 0
    detail: TickDetail | None = None

    @property
    def seconds(self) -> float:
        """The whole tick."""
        return self.fetch + self.decode + self.execute + self.write_back

    @property
    def ended(self) -> float:
        """When it was over."""
        return self.started + self.seconds


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that has ended. Times are in seconds of the clock's own time.

    arrived: when it was handed in, after `tokenize` seconds of making tokens of its text; those of
    texts that an encoder gets together are all with the first one
    admitted: when it first ran, None if it never did; first_token, last_token: None without one
    prompt: tokens of its prompt or text, of which `cached` were in KV pages already
    tokens: those of its answer; drafted, accepted: guesses, and those that came true
    finish: why it ended
    """

    arrived: float
    tokenize: float
    admitted: float | None
    first_token: float | None
    last_token: float | None
    ended: float
    prompt: int
    cached: int
    tokens: int
    drafted: int
    accepted: int
    finish: str


class Observer(Protocol):
    """Who watches a clock. It is called by whoever ticks, so it must be quick.

    One that raises is told nothing more; `Clock.unwatch` raises the same.
    """

    @property
    def wants_detail(self) -> bool:
        """Whether ticks are recorded with `TickDetail`, which costs some microseconds each."""
        ...

    def tick(self, record: TickRecord) -> None:
        """A tick is over; its events have not been handed out yet."""
        ...

    def request(self, record: RequestRecord) -> None:
        """A request has ended."""
        ...


class Meter:
    """Stop-watches inside the stage write back, by the clock's time; they run while one watches."""

    __slots__ = ("choose", "is_on", "now", "text")

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.is_on = False
        self.choose = 0.0
        self.text = 0.0

    def take(self) -> tuple[float, float]:
        """Seconds of choosing and of text since the last call."""
        spent = self.choose, self.text
        self.choose = self.text = 0.0
        return spent


def detail_of(batch: Batch, counters: Counters, meter: Meter, memory: int) -> TickDetail:
    """What is to be remembered of a batch that ran; its arrays may change with the next tick."""
    choose, text = meter.take()
    return TickDetail(
        starts=batch.starts,  # is never changed in place
        contexts=batch.contexts.copy(),
        adapters=None if batch.adapters is None else batch.adapters.copy(),
        selected=len(batch.output_rows),
        output=batch.output,
        counters=counters,
        choose=choose,
        text=text,
        memory=memory,
    )
