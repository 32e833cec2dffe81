"""The clock under everything at once: crowds, few pages, cancellations, faults, leaps of time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from overclock.clock.clock import Clock
from overclock.clock.completion import Completion, Piece
from overclock.clock.request import Encoded, Generate, Request, Score
from overclock.clock.sampling import Sampling
from overclock.clock.sequence import Sequence, Ticket
from overclock.clock.settings import ClockSettings
from overclock.clock.time import VirtualTime
from overclock.errors import OverloadError
from overclock.program.program import PAGE_TOKENS
from tests.clock.ledger import Ledger, ledger_program
from tests.clock.oracle import (
    DAMAGED,
    POISON,
    Letters,
    check_logprobs,
    check_score,
    expected,
    generates,
    scores,
    text_of,
)


@dataclass
class Asked:
    """A request, and what has been heard of it."""

    ticket: Ticket
    pieces: list[Piece] = field(default_factory=list)
    last: Piece | Encoded | None = None
    is_cancelled: bool = False

    @property
    def request(self) -> Request:
        return self.ticket.request


class Crowd(RuleBasedStateMachine):
    """Any requests in any order on a machine that keeps accounts."""

    def start(
        self,
        settings: ClockSettings,
        *,
        pages: int,
        context: int,
        seconds: tuple[float, float] = (0.01, 1e-3),
        drafts: bool = False,
    ) -> None:
        """`seconds` are those of a run and of each row; drafts: with a draft model."""
        self.time = VirtualTime()
        self.ledger = Ledger(pages, self.time, *seconds)
        self.ledger.poison, self.ledger.damaged = POISON, DAMAGED
        self.draft = Ledger(pages, self.time, seconds[0] / 10, is_draft=True)
        self.clock = Clock(
            self.ledger,
            ledger_program(context),
            pages,
            settings=settings,
            time=self.time,
            draft=self.draft if drafts else None,
        )
        assert self.clock.context == min(context, pages * PAGE_TOKENS)
        self.asked: dict[Ticket, Asked] = {}
        self.saved: list[tuple[list[int], NDArray[np.uint8]]] = []

    @rule(data=st.data(), count=st.integers(1, 6))
    def generate(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            self._submit(data.draw(generates(self.clock.context)))

    @rule(data=st.data(), count=st.integers(2, 5))
    def siblings(self, data: st.DataObject, count: int) -> None:
        """Requests that differ by chance only."""
        request = data.draw(generates(self.clock.context))
        for seed in range(count):
            self._submit(
                replace(
                    request,
                    sampling=Sampling(temperature=1.0, seed=seed),
                    detokenizer=None if request.detokenizer is None else Letters(),
                )
            )

    @rule(data=st.data())
    def score(self, data: st.DataObject) -> None:
        self._submit(data.draw(scores(self.clock.context)))

    @rule(count=st.integers(1, 5) | st.integers(1, 80))
    def ticks(self, count: int) -> None:
        for _ in range(count):
            self._tick()

    @invariant()
    def is_whole(self) -> None:
        if hasattr(self, "clock"):
            self.clock.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "clock"):
            return
        rows = sum(len(a.request.token_ids) + 70 for a in self.asked.values() if a.last is None)
        for _ in range(20 * rows + 20):
            if not self.clock.is_busy:
                break
            self._tick()
        assert not self.clock.is_busy, "requests do not come to an end"
        assert self.clock.roster.running == self.clock.waiting == 0
        assert self.clock.pages.available == self.clock.pages.count
        assert len(self.clock.roster.slots.free) == self.clock.settings.streams
        unblamed = 0
        for asked in self.asked.values():
            unblamed += self._check(asked)
        assert unblamed <= self.ledger.lonely

    def _submit(self, request: Request) -> None:
        waiting, running = self.clock.waiting, self.clock.roster.running
        room = self.clock.settings.queue + self.clock.settings.streams - running
        if waiting >= room:
            with pytest.raises(OverloadError) as refused:
                self.clock.submit(request)
            assert refused.value.retry_after_s > 0
            return
        ticket = self.clock.submit(request)
        self.asked[ticket] = Asked(ticket)

    def _tick(self) -> None:
        roster = self.clock.roster
        generating = [(each, _tokens(each)) for each in roster.generating]
        overdue = [
            asked
            for asked in self.asked.values()
            if asked.last is None
            and asked.request.deadline_s is not None
            and asked.ticket.arrived + asked.request.deadline_s <= self.time.now()
        ]
        for event in self.clock.tick():
            asked = self.asked[event.ticket]
            assert asked.last is None, "something came behind the last event"
            if isinstance(event.content, Piece):
                asked.pieces.append(event.content)
                assert (event.content.completion is not None) == event.last
            if event.last:
                asked.last = event.content
        assert all(asked.last is not None for asked in overdue), "a deadline was not kept"
        for sequence, before in generating:
            has_place = sequence in roster.generating
            assert not has_place or _tokens(sequence) > before, "a request did not go on"
        assert self.clock.last is not None
        assert max(self.ledger.furthest, self.draft.furthest) <= self.clock.context
        assert self.clock.last.prompt_tokens <= self.clock.settings.tick_tokens
        self.clock.check_integrity()

    def _check(self, asked: Asked) -> bool:
        """Hold an answer against the plain loop; whether it failed by no fault of its own."""
        assert asked.last is not None
        if isinstance(asked.last, Encoded):
            assert isinstance(asked.request, Score)
            if asked.last.values is not None:
                check_score(asked.request, asked.last.values)
                return False
            assert asked.last.error is not None
            return "as it was told to" in str(asked.last.error)
        completion, request = asked.last.completion, asked.request
        assert completion is not None
        assert isinstance(request, Generate)
        self._check_pieces(asked, completion, request)
        _check_usage(completion, request)
        wanted = expected(request, faults=True)
        count = len(completion.token_ids)
        assert completion.token_ids == wanted.tokens[:count]
        assert completion.text == text_of(request, completion.token_ids)[0]
        check_logprobs(request, completion)
        reason = completion.finish_reason
        assert (completion.error is not None) == (reason == "error")
        if reason == "cancelled":
            assert asked.is_cancelled
        elif reason == "deadline":
            assert request.deadline_s is not None
        elif reason == "error" and "as it was told to" in str(completion.error):
            return True
        elif reason == "error" and request.prompt_logprobs is not None:
            assert set(request.token_ids) & {POISON, DAMAGED} or wanted.finish == "error", (
                request,
                completion,
                wanted,
            )
        else:
            assert reason == wanted.finish, (request, completion, wanted)
            assert count == len(wanted.tokens), (request, completion, wanted)
        return False

    def _check_pieces(self, asked: Asked, completion: Completion, request: Generate) -> None:
        if not request.stream:
            assert len(asked.pieces) == 1
            return
        assert "".join(piece.text for piece in asked.pieces) == completion.text
        tokens = [token for piece in asked.pieces for token in piece.token_ids]
        assert tokens == completion.token_ids


class ClockUnderFire(Crowd):
    """With everything that can go wrong."""

    @initialize(
        pages=st.integers(1, 12) | st.integers(4, 8),
        context=st.integers(1, 200) | st.integers(100, 200),
        streams=st.integers(1, 8) | st.integers(4, 8),
        queue=st.integers(0, 20),
        tick_tokens=st.sampled_from([1, 2, 7, 33, 512]),
        stretch=st.sampled_from([None, 1.5]),
        share=st.integers(0, 4),
        draft_tokens=st.sampled_from([0, 1, 8]),
        run_s=st.sampled_from([0.0, 0.01]),
        row_s=st.sampled_from([0.0, 1e-5, 0.01]),
        drafts=st.booleans(),
    )
    def open(
        self,
        pages: int,
        context: int,
        streams: int,
        queue: int,
        tick_tokens: int,
        stretch: float | None,
        share: int,
        draft_tokens: int,
        run_s: float,
        row_s: float,
        drafts: bool,
    ) -> None:
        clock_settings = ClockSettings(
            streams=streams,
            queue=queue,
            tick_tokens=tick_tokens,
            stretch=stretch,
            share_prefixes=share > 0,
            draft_tokens=draft_tokens,
        )
        self.start(
            clock_settings, pages=pages, context=context, seconds=(run_s, row_s), drafts=drafts
        )

    @rule(data=st.data())
    @precondition(lambda self: self.asked)
    def cancel(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(list(self.asked.values())))
        self.clock.cancel(asked.ticket)
        asked.is_cancelled = True

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.2, 36_000.0]))
    def wait(self, seconds: float) -> None:
        self.time.advance(seconds)

    @rule(ahead=st.integers(0, 5), count=st.integers(1, 3))
    def break_machine(self, ahead: int, count: int) -> None:
        self.ledger.fail_at.update(self.ledger.runs + ahead + n for n in range(count))

    @rule(ahead=st.integers(0, 20))
    def break_draft_model(self, ahead: int) -> None:
        self.draft.fail_at.add(self.draft.runs + ahead)

    @rule(data=st.data())
    @precondition(lambda self: self.asked)
    def save_prefix(self, data: st.DataObject) -> None:
        """Of a request that may have been there; others may be in the middle of it."""
        tokens = data.draw(st.sampled_from(list(self.asked))).request.token_ids
        tokens = tokens[: data.draw(st.integers(1, len(tokens)))]
        pages = self.clock.read_prefix(tokens)
        if pages is not None:
            assert pages.shape == (-(-len(tokens) // PAGE_TOKENS), self.ledger.page_bytes)
            self.saved.append((tokens, pages.copy()))

    @rule(data=st.data())
    @precondition(lambda self: self.saved)
    def load_prefix(self, data: st.DataObject) -> None:
        tokens, pages = data.draw(st.sampled_from(self.saved))
        available = self.clock.pages.available
        if not self.clock.write_prefix(tokens, pages):
            assert available < len(pages)
        assert self.clock.pages.available == available
        self.clock.check_integrity()

    @rule()
    def forget(self) -> None:
        self.clock.pages.forget()
        assert self.clock.pages.cached == 0


class ClockInNeed(Crowd):
    """With few pages for many: requests lose them and come again."""

    @initialize(
        pages=st.integers(6, 8),
        tick_tokens=st.sampled_from([33, 512]),
        draft_tokens=st.sampled_from([0, 8]),
        drafts=st.booleans(),
    )
    def open(self, pages: int, tick_tokens: int, draft_tokens: int, drafts: bool) -> None:
        clock_settings = ClockSettings(
            streams=6, tick_tokens=tick_tokens, draft_tokens=draft_tokens
        )
        self.start(clock_settings, pages=pages, context=192, seconds=(0.01, 1e-5), drafts=drafts)


def _tokens(sequence: Sequence) -> int:
    assert sequence.answer is not None
    return len(sequence.answer.tokens)


def _check_usage(completion: Completion, request: Generate) -> None:
    usage = completion.usage
    assert usage.prompt_tokens == len(request.token_ids)
    assert usage.completion_tokens == len(completion.token_ids)
    assert 0 <= usage.cached_tokens <= len(request.token_ids) - 1
    assert request.reuse or usage.cached_tokens == 0
    assert 0 <= usage.accepted_tokens <= usage.drafted_tokens
    assert request.speculation != "off" or usage.drafted_tokens == 0
    timing = completion.timing
    assert timing.queue_s >= 0
    assert (timing.first_token_s is not None) == bool(completion.token_ids)


TestClockUnderFire = ClockUnderFire.TestCase
TestClockUnderFire.settings = settings(max_examples=60, stateful_step_count=40)
TestClockInNeed = ClockInNeed.TestCase
TestClockInNeed.settings = settings(max_examples=20, stateful_step_count=20)
