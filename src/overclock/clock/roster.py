"""All requests of a clock: who waits, who is in its prompt, who generates, and what each holds."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overclock.clock.completion import Completion, FinishReason, Piece, Timing, Usage
from overclock.clock.pages import Pages
from overclock.clock.request import Encoded
from overclock.clock.sequence import Sequence, Ticket, answer_of
from overclock.errors import OverclockError
from overclock.program.program import PAGE_TOKENS
from overclock.trace.record import RequestRecord


@dataclass(frozen=True, slots=True)
class Event:
    """Something a request waited for: a piece of its answer, or what its text was encoded to.

    `last` says that nothing follows.
    """

    ticket: Ticket
    content: Piece | Encoded
    last: bool


class Slots:
    """A row for each running request in the table of KV pages.

    table: ``int32[streams, pages]`` KV pages in order; free: rows that nobody has
    """

    def __init__(self, streams: int, pages: int) -> None:
        self.table: NDArray[np.int32] = np.zeros((streams, pages), np.int32)
        self.free = list(range(streams - 1, -1, -1))


NOTHING = Piece("")


class Roster:
    """The requests of one clock. A request is in exactly one of the three lists until it ends."""

    def __init__(
        self, pages: Pages, slots: Slots, now: Callable[[], float], load_s: float = 0.0
    ) -> None:
        self.pages = pages
        self.slots = slots
        self.waiting: list[Sequence] = []  # by key
        self.prompting: list[Sequence] = []
        self.generating: list[Sequence] = []
        self.events: list[Event] = []
        self.version = 0  # counts changes of who generates, and in which pages
        self.ended = 0
        self.preempted = 0
        self.requests: list[RequestRecord] | None = None  # that ended; None if nobody watches
        self._load_s = load_s
        self._now = now

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.waiting
        yield from self.prompting
        yield from self.generating

    @property
    def running(self) -> int:
        """Requests that hold KV pages."""
        return len(self.prompting) + len(self.generating)

    def wait(self, sequence: Sequence) -> None:
        """Put a request into the queue."""
        insort(self.waiting, sequence, key=lambda each: each.key)

    def show_pages(self, sequence: Sequence, first: int = 0) -> None:
        """Write a request's pages from number `first` on into its row of the table."""
        assert sequence.holding is not None
        self.version += 1
        pages = sequence.holding.pages[first:]
        self.slots.table[sequence.slot, first : first + len(pages)] = pages

    def settle(self, sequence: Sequence) -> None:
        """Let the tree know what has been computed; full private pages become shared ones."""
        holding = sequence.holding
        assert holding is not None
        self.pages.computed(holding, sequence.computed)
        while holding.own and sequence.computed >= PAGE_TOKENS * (len(holding.nodes) + 1):
            at = len(holding.nodes)
            tokens = tuple(sequence.tokens[PAGE_TOKENS * at : PAGE_TOKENS * (at + 1)])
            shared = self.pages.fill(holding, tokens)
            if len(holding.nodes) == at:
                return
            if shared is not None:
                self.slots.table[sequence.slot, at] = shared
                self.version += 1

    def preempt(self, sequence: Sequence) -> None:
        """Take a request's pages away; it waits, and computes them again later."""
        self._give_back(sequence)
        (self.prompting if sequence in self.prompting else self.generating).remove(sequence)
        sequence.computed = 0
        self.preempted += 1
        self.wait(sequence)

    def end(
        self,
        sequence: Sequence,
        reason: FinishReason,
        error: OverclockError | None = None,
        unsaid: Piece = NOTHING,
    ) -> None:
        """A request is over: its pages come back, and its last event goes out with `unsaid`."""
        for requests in (self.generating, self.prompting, self.waiting):
            if sequence in requests:
                requests.remove(sequence)
                break
        self._give_back(sequence)
        sequence.ended = True
        self.ended += 1
        words = self._last_words(sequence, reason, error, unsaid)
        self.events.append(Event(sequence.ticket, words, True))
        if self.requests is not None:
            self.requests.append(self._record(sequence, reason))

    def _give_back(self, sequence: Sequence) -> None:
        self.version += 1
        holding = sequence.holding
        if holding is not None:
            start = PAGE_TOKENS * len(holding.nodes)
            stop = min(sequence.computed, start + PAGE_TOKENS)
            self.pages.release(holding, sequence.tokens[start:stop])
            sequence.holding = None
        if sequence.slot is not None:
            self.slots.free.append(sequence.slot)
            sequence.slot = None

    def _last_words(
        self,
        sequence: Sequence,
        reason: FinishReason,
        error: OverclockError | None,
        unsaid: Piece,
    ) -> Piece | Encoded:
        answer = sequence.answer
        if answer is None:
            if reason != "stop":
                return Encoded(None, error or OverclockError(_ENDINGS[reason]))
            return Encoded(np.concatenate(sequence.blocks))
        answer.finish = reason
        if answer.logprobs is not None:  # guesses that came true behind the end
            del answer.logprobs[len(answer.tokens) :]
        rest = answer.rest()
        completion = Completion(
            "".join(answer.texts),
            answer.tokens,
            answer.finish,
            self._usage(sequence),
            self._timing(sequence),
            answer.logprobs,
            answer.prompt_logprobs,
            error,
        )
        return Piece(unsaid.text + rest, completion, unsaid.token_ids)

    def _record(self, sequence: Sequence, reason: FinishReason) -> RequestRecord:
        answer = sequence.answer
        return RequestRecord(
            arrived=sequence.ticket.arrived,
            tokenize=sequence.ticket.request.tokenize_s,
            admitted=sequence.admitted,
            first_token=sequence.first_token,
            last_token=sequence.last_token,
            ended=self._now(),
            prompt=sequence.prompt,
            cached=sequence.cached,
            tokens=0 if answer is None else len(answer.tokens),
            drafted=0 if answer is None else answer.drafted,
            accepted=0 if answer is None else answer.accepted,
            finish=reason,
        )

    def _usage(self, sequence: Sequence) -> Usage:
        answer = answer_of(sequence)
        return Usage(
            sequence.prompt, len(answer.tokens), sequence.cached, answer.drafted, answer.accepted
        )

    def _timing(self, sequence: Sequence) -> Timing:
        answer = answer_of(sequence)
        arrived, first, last = sequence.ticket.arrived, sequence.first_token, sequence.last_token
        admitted = self._now() if sequence.admitted is None else sequence.admitted
        rest = len(answer.tokens) - 1
        return Timing(
            load_s=self._load_s,
            first_token_s=None if first is None else first - arrived,
            prompt_tokens_per_s=(
                (sequence.prompt - sequence.cached) / (first - admitted)
                if first is not None and first > admitted
                else None
            ),
            generation_tokens_per_s=(
                rest / (last - first)
                if first is not None and last is not None and rest and last > first
                else None
            ),
            queue_s=admitted - arrived,
        )


_ENDINGS: dict[FinishReason, str] = {
    "cancelled": "the request was cancelled",
    "deadline": "the request was not done by its deadline; give it more time or ask for less",
    "error": "the request failed",
}
