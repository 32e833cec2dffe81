"""The laws of the clock, one by one, on a machine that keeps accounts."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Sequence as Row
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.clock.clock import Clock
from overclock.clock.completion import Completion, Piece
from overclock.clock.decode import WORTH_WAITING
from overclock.clock.fetch import Fetch, Inbox
from overclock.clock.request import Encode, Encoded, Generate, Request, Score
from overclock.clock.roster import Event
from overclock.clock.sampling import Sampling
from overclock.clock.sequence import Ticket
from overclock.clock.settings import ClockSettings
from overclock.clock.time import VirtualTime
from overclock.errors import InputError, MachineError, OverloadError
from overclock.program.program import PAGE_TOKENS
from overclock.trace.record import TickRecord
from tests.clock.ledger import VOCABULARY, Ledger, ledger_program
from tests.clock.oracle import DAMAGED, POISON, Letters, check_score, expected

Logits = NDArray[np.float32]

TEXT = np.random.default_rng(1).integers(0, DAMAGED, 2000).tolist()


class Rig:
    """A clock, its machine and its time; a run takes 10 ms and 1 ms for each of its tokens."""

    def __init__(
        self, settings: ClockSettings | None = None, pages: int = 100, *, draft: bool = False
    ) -> None:
        self.time = VirtualTime()
        self.machine = Ledger(pages, self.time, 0.01, 0.001)
        self.draft = Ledger(pages, self.time, 0.001, is_draft=True)
        self.clock = Clock(
            self.machine,
            ledger_program(4096),
            pages,
            settings=settings,
            time=self.time,
            draft=self.draft if draft else None,
        )
        self.events: list[Event] = []
        self.records: list[TickRecord] = []

    def tick(self, count: int = 1) -> None:
        """Tick, whether or not there is anything to do."""
        for _ in range(count):
            self.events += self.clock.tick()
            self.clock.check_integrity()
            assert self.clock.last is not None
            self.records.append(self.clock.last)

    def drain(self) -> None:
        """Tick until all is done."""
        for _ in range(10_000):
            if not self.clock.is_busy:
                return
            self.tick()
        raise AssertionError("the requests do not come to an end")

    def ended(self) -> list[Ticket]:
        """The requests that have ended, in that order."""
        return [event.ticket for event in self.events if event.last]

    def completion(self, ticket: Ticket) -> Completion:
        """The answer to a request that has ended."""
        [content] = [
            event.content for event in self.events if event.ticket is ticket and event.last
        ]
        assert isinstance(content, Piece)
        assert content.completion is not None
        return content.completion

    def encoded(self, ticket: Ticket) -> Encoded:
        """What came of a request for logits."""
        [content] = [event.content for event in self.events if event.ticket is ticket]
        assert isinstance(content, Encoded)
        return content

    def run(self, requests: Row[Request]) -> list[Completion]:
        """Hand requests in together, and wait for all."""
        tickets = [self.clock.submit(request) for request in requests]
        self.drain()
        return [self.completion(ticket) for ticket in tickets]


def ask(tokens: list[int], max_tokens: int = 4, **options: object) -> Generate:
    """A request without speculation, so that rows can be counted."""
    request = Generate(token_ids=tokens, max_tokens=max_tokens, speculation="off")
    return replace(request, **options)  # type: ignore[arg-type]


# Work that is done once


@given(size=st.integers(18, 150), count=st.integers(1, 10), max_tokens=st.integers(1, 5))
def test_siblings_compute_their_prompt_once(size: int, count: int, max_tokens: int) -> None:
    rig = Rig()
    found = rig.run(
        [
            ask(TEXT[:size], max_tokens, sampling=Sampling(temperature=1.0, seed=seed))
            for seed in range(count)
        ]
    )
    cached = [each.usage.cached_tokens for each in found]
    assert cached == [0] + [size - 1] * (count - 1)
    assert rig.machine.rows == size + (count - 1) + count * (max_tokens - 1)


@given(size=st.integers(1, 150))
def test_the_same_prompt_again_runs_its_last_token(size: int) -> None:
    rig = Rig()
    [first] = rig.run([ask(TEXT[:size], 1)])
    rows = rig.machine.rows
    [second] = rig.run([ask(TEXT[:size], 1)])
    assert second.token_ids == first.token_ids
    assert second.usage.cached_tokens == size - 1
    assert rig.machine.rows == rows + 1


@given(size=st.integers(1, 100), max_tokens=st.integers(1, 80), more=st.integers(1, 40))
def test_a_conversation_goes_on_where_it_was(size: int, max_tokens: int, more: int) -> None:
    rig = Rig()
    [first] = rig.run([ask(TEXT[:size], max_tokens)])
    prompt = TEXT[:size] + first.token_ids + TEXT[500 : 500 + more]
    [second] = rig.run([ask(prompt)])
    # The last token of an answer is not run any more.
    assert second.usage.cached_tokens == size + max_tokens - 1
    assert second.token_ids == expected(ask(prompt)).tokens


def test_who_shares_a_long_beginning_waits_for_it_and_others_pass() -> None:
    rig = Rig(ClockSettings(tick_tokens=32))
    one = rig.clock.submit(ask(TEXT[:300]))
    rig.tick()
    two = rig.clock.submit(ask(TEXT[:200] + TEXT[600:610]))
    other = rig.clock.submit(ask(TEXT[700:710]))
    rig.drain()
    # A few tokens of a page that is being computed are not worth waiting for.
    assert 200 - WORTH_WAITING < rig.completion(two).usage.cached_tokens <= 200
    assert rig.ended().index(other) < rig.ended().index(two)
    assert rig.completion(one).usage.cached_tokens == 0


def test_who_waited_for_a_beginning_that_never_comes_computes_it() -> None:
    rig = Rig(ClockSettings(tick_tokens=32))
    one = rig.clock.submit(ask(TEXT[:300]))
    rig.tick(2)
    two = rig.clock.submit(ask(TEXT[:301]))
    rig.tick()
    rig.clock.cancel(one)
    rig.drain()
    assert rig.completion(one).finish_reason == "cancelled"
    assert 32 <= rig.completion(two).usage.cached_tokens < 300
    assert rig.completion(two).token_ids == expected(ask(TEXT[:301])).tokens


def test_nothing_is_shared_between_salts_nor_without_sharing() -> None:
    for settings, salts in ((None, "ab"), (ClockSettings(share_prefixes=False), "aa")):
        rig = Rig(settings)
        for salt in salts:
            [found] = rig.run([ask(TEXT[:100], world=salt)])
            assert found.usage.cached_tokens == 0
        assert rig.machine.rows == 2 * 103
    rig = Rig()
    for adapter in (0, 1):
        [found] = rig.run([ask(TEXT[:100], adapter=adapter)])
        assert found.usage.cached_tokens == 0
        assert found.token_ids == expected(ask(TEXT[:100], adapter=adapter)).tokens


def test_a_request_may_compute_all_of_its_prompt_itself() -> None:
    rig = Rig()
    rig.run([ask(TEXT[:100])])
    [found] = rig.run([ask(TEXT[:100], reuse=False)])
    assert found.usage.cached_tokens == 0
    assert rig.machine.rows == 2 * 103
    assert rig.clock.pages.cached == 4  # the same pages twice are kept once


@given(size=st.integers(1, 150), more=st.integers(1, 40))
def test_a_prefix_that_was_taken_out_can_be_put_in_elsewhere(size: int, more: int) -> None:
    rig, other = Rig(), Rig()
    assert rig.clock.read_prefix(TEXT[:size]) is None
    rig.run([ask(TEXT[: size + more])])
    pages = rig.clock.read_prefix(TEXT[:size])
    assert pages is not None
    assert other.clock.write_prefix(TEXT[:size], pages)
    other.clock.check_integrity()
    request = ask(TEXT[: size + more])
    [found] = other.run([request])
    assert found.usage.cached_tokens == size
    assert found.token_ids == expected(request).tokens


# Fairness


def test_equals_are_served_in_the_order_they_came() -> None:
    rig = Rig(ClockSettings(streams=1))
    tickets = [rig.clock.submit(ask(TEXT[at : at + 20 + at % 3])) for at in range(20)]
    rig.drain()
    assert rig.ended() == tickets


def test_priority_goes_first_among_those_that_wait() -> None:
    rig = Rig(ClockSettings(streams=1))
    low, high, middle = (rig.clock.submit(ask([9], priority=n)) for n in (-2, 7, 1))
    rig.drain()
    assert rig.ended() == [high, middle, low]


def test_waiting_counts_as_priority_so_nobody_starves() -> None:
    rig = Rig(ClockSettings(streams=1, aging_s=1.0))
    low = rig.clock.submit(ask(TEXT[:10], priority=-3))
    arrived: dict[Ticket, float] = {}
    while low not in rig.ended():
        ticket = rig.clock.submit(ask(TEXT[20:30]))
        arrived[ticket] = rig.time.now()
        rig.time.advance(0.1)
        rig.tick()
        assert len(arrived) < 1000
    before = rig.ended()[: rig.ended().index(low)]
    assert before, "priority had no effect"
    assert max(arrived[ticket] for ticket in before) < 3.0 + 0.2


def test_a_long_prompt_stretches_the_ticks_of_others_only_as_far_as_allowed() -> None:
    rig = Rig(ClockSettings(tick_tokens=512, stretch=2.0))
    for at in range(8):
        rig.clock.submit(ask(TEXT[at : at + 5], 1000))
    rig.tick(40)
    alone = rig.records[-1].seconds
    rig.clock.submit(ask(TEXT[100:1900]))
    rig.tick(60)
    during = rig.records[40:]
    assert all(record.tokens >= 8 for record in during)
    assert sum(record.prompt_tokens for record in during) > 200
    # The first of them show what a token of a prompt costs.
    assert max(record.seconds for record in during[5:]) <= 2.1 * alone


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    rig = Rig(ClockSettings(tick_tokens=64))
    long = rig.clock.submit(ask(TEXT[:1500]))
    rig.tick(2)
    short = rig.clock.submit(ask(TEXT[1600:1620]))
    rig.tick(5)
    assert rig.ended() == [short]
    rig.drain()
    assert rig.ended() == [short, long]


@given(tick_tokens=st.integers(1, 100), count=st.integers(1, 10))
def test_a_tick_takes_no_more_tokens_of_prompts_than_it_may(tick_tokens: int, count: int) -> None:
    rig = Rig(ClockSettings(tick_tokens=tick_tokens, stretch=None))
    rig.run([ask(TEXT[100 * at : 130 * at + 10]) for at in range(count)])
    assert max(record.prompt_tokens for record in rig.records) <= tick_tokens
    assert sum(record.rows for record in rig.records) == rig.machine.rows


# Too many, too large, too late


def test_a_queue_has_an_end() -> None:
    rig = Rig(ClockSettings(streams=2, queue=3))
    for at in range(5):
        rig.clock.submit(ask(TEXT[at : at + 5], 50))
    for _ in range(3):
        with pytest.raises(OverloadError, match="5 requests wait") as refused:
            rig.clock.submit(ask(TEXT[:5]))
        assert refused.value.retry_after_s > 0
    rig.tick()
    with pytest.raises(OverloadError, match="3 requests wait"):
        rig.clock.submit(ask(TEXT[:5]))
    rig.drain()
    assert len(rig.ended()) == 5
    assert len(rig.run([ask(TEXT[:5])])) == 1


def test_hours_without_work_make_no_longer_retry_hint() -> None:
    rig = Rig(ClockSettings(streams=1, queue=4))
    rig.run([ask(TEXT[:5], 10)])
    before = rig.clock.patience_s()
    rig.time.advance(10_000.0)
    assert rig.clock.patience_s() == before < 100.0


def test_the_retry_hint_grows_with_what_requests_take() -> None:
    hints = []
    for max_tokens in (10, 100):
        rig = Rig(ClockSettings(streams=1, queue=4))
        rig.run([ask(TEXT[:5], max_tokens)])
        for at in range(5):
            rig.clock.submit(ask(TEXT[at : at + 5]))
        with pytest.raises(OverloadError) as refused:
            rig.clock.submit(ask(TEXT[:5]))
        hints.append(refused.value.retry_after_s)
    assert 0 < hints[0] < hints[1]


def test_what_can_never_fit_is_refused_and_what_just_fits_is_run() -> None:
    rig = Rig(pages=2)
    for request in (
        ask([]),
        ask(TEXT[:65], 1),
        ask(TEXT[:60], 6),
        Score(token_ids=TEXT[:65]),
        Score(token_ids=[]),
    ):
        with pytest.raises(InputError, match="room for 1 to 64"):
            rig.clock.submit(request)
    with pytest.raises(InputError, match="Encoder"):
        rig.clock.submit(Encode(token_ids=[1], output="vector"))
    assert not rig.clock.is_busy
    [one] = rig.run([ask(TEXT[:60], 5)])
    [two] = rig.run([ask(TEXT[:64], 1)])
    assert (len(one.token_ids), len(two.token_ids)) == (5, 1)
    rig.clock.submit(Score(token_ids=TEXT[:64]))
    rig.drain()


def test_a_deadline_ends_an_answer_as_far_as_it_came() -> None:
    rig = Rig()
    tickets = [
        rig.clock.submit(ask(TEXT[:10], 100, deadline_s=0.2, detokenizer=Letters())),
        rig.clock.submit(ask(TEXT[:20], 100, deadline_s=0.0)),
        rig.clock.submit(ask(TEXT[:30], 10)),
    ]
    score = rig.clock.submit(Score(token_ids=TEXT[:10], deadline_s=0.0))
    while rig.time.now() < 0.2:
        rig.tick()
        assert tickets[0] not in rig.ended()
    rig.tick()
    first, second = (rig.completion(ticket) for ticket in tickets[:2])
    assert first.finish_reason == second.finish_reason == "deadline"
    assert first.token_ids
    assert first.text
    assert not second.token_ids
    assert second.timing.first_token_s is None
    assert "deadline" in str(rig.encoded(score).error)
    rig.drain()
    assert rig.completion(tickets[2]).finish_reason == "length"


def test_one_stage_after_the_other_may_be_cancelled() -> None:
    rig = Rig(ClockSettings(streams=2, tick_tokens=20))
    generating = rig.clock.submit(ask(TEXT[:10], 100, detokenizer=Letters()))
    rig.tick(3)
    prompting = rig.clock.submit(ask(TEXT[20:400]))
    rig.tick(2)
    waiting = rig.clock.submit(ask(TEXT[:100]))
    rig.tick()
    arriving = rig.clock.submit(ask(TEXT[:100]))
    assert (rig.clock.roster.running, rig.clock.waiting) == (2, 2)
    tickets = (generating, prompting, waiting, arriving)
    for ticket in tickets:
        rig.clock.cancel(ticket)
        rig.clock.cancel(ticket)
    rig.tick()
    assert set(rig.ended()) == set(tickets)
    assert {rig.completion(ticket).finish_reason for ticket in tickets} == {"cancelled"}
    assert rig.clock.pages.available == rig.clock.pages.count
    assert not rig.clock.is_busy
    answer = rig.completion(generating)
    assert answer.token_ids == expected(ask(TEXT[:10], len(answer.token_ids))).tokens
    rig.clock.cancel(generating)
    rig.tick()
    assert len(rig.ended()) == 4


class _Late(deque[Ticket]):
    """A deque to which another thread adds just when it was found empty."""

    def __init__(self, inbox: Inbox, ticket: Ticket) -> None:
        super().__init__()
        self._inbox = inbox
        self._tickets = [ticket]

    def __len__(self) -> int:
        length = super().__len__()
        if not length and self._tickets:
            ticket = self._tickets.pop()
            self.append(ticket)
            self._inbox.cancellations.append(ticket)
        return length


def test_a_cancellation_that_overtakes_its_request_is_not_lost() -> None:
    rig = Rig()
    inbox = Inbox()
    late = Ticket(Score(token_ids=[1]), None, 0.0)
    inbox.arrivals = _Late(inbox, late)
    fetch = Fetch(inbox, rig.clock.roster, 1.0)
    fetch(0.0)
    fetch(0.0)
    assert [event.ticket for event in rig.clock.roster.events] == [late]


# Faults


def test_a_failing_run_is_repeated_one_by_one() -> None:
    rig = Rig()
    requests = [ask(TEXT[at : at + 40], 20) for at in range(4)]
    rig.machine.fail_at = {0, 7, 12}
    found = rig.run(requests)
    assert [each.token_ids for each in found] == [expected(each).tokens for each in requests]
    assert {each.finish_reason for each in found} == {"length"}


def test_only_the_one_that_cannot_run_fails() -> None:
    rig = Rig()
    rig.machine.poison, rig.machine.damaged = POISON, DAMAGED
    good = [ask(TEXT[at : at + 40], 8) for at in range(4)]
    bad = [ask([*TEXT[:10], token]) for token in (POISON, DAMAGED)]
    bad.append(ask([*TEXT[:10], DAMAGED, 1], prompt_logprobs=1))
    found = rig.run([*good, *bad])
    for each, request in zip(found, good, strict=False):
        wanted = expected(request, faults=True)
        assert (each.token_ids, each.finish_reason) == (wanted.tokens, wanted.finish)
    assert "length" in {each.finish_reason for each in found[:4]}
    assert {each.finish_reason for each in found[4:]} == {"error"}
    assert all(isinstance(each.error, MachineError) for each in found[4:])
    assert not any(each.token_ids for each in found[4:])


def test_a_hook_that_fails_ends_its_own_request() -> None:
    def narrow(tokens: Row[int], logits: Logits) -> Logits:
        return logits[:-1]

    def raising(tokens: Row[int], logits: Logits) -> Logits:
        raise KeyError("no such thing")

    rig = Rig()
    requests = [ask(TEXT[:10], processor=hook) for hook in (narrow, raising, None)]
    narrowed, raised, good = rig.run(requests)
    assert "shape" in str(narrowed.error)
    assert "KeyError" in str(raised.error)
    assert good.token_ids == expected(ask(TEXT[:10])).tokens


def test_what_a_sampler_refuses_is_refused_when_it_is_handed_in() -> None:
    rig = Rig()
    for request in (
        ask([1], sampling=Sampling(logit_bias={VOCABULARY: 1.0})),
        ask([1, VOCABULARY], sampling=Sampling(repetition_penalty=1.1)),
    ):
        with pytest.raises(InputError, match="vocabulary"):
            rig.clock.submit(request)
    assert not rig.clock.is_busy


def test_an_error_behind_the_end_of_an_answer_is_nobodys() -> None:
    """A guess may lie behind the token that ends the answer, and its logits may be anything."""
    end = 4
    for start in range(50):
        prompt = [TEXT[start], *[0, 1, 2, 3, end] * 6, 0, 1, 2]
        request = Generate(token_ids=prompt, max_tokens=9, ends=frozenset({end}))
        if expected(request).tokens == [3, end]:
            break
    rig = Rig()
    rig.run([ask([7], 20)])  # guesses need a pace
    rig.machine.damaged = end
    [found] = rig.run([request])
    assert found.usage.drafted_tokens > 1
    assert found.token_ids == [3, end]
    assert found.finish_reason == "stop"


@given(size=st.integers(10, 64), max_tokens=st.integers(2, 60), draft=st.booleans())
def test_guesses_stay_within_what_an_answer_may_have(
    size: int, max_tokens: int, draft: bool
) -> None:
    rig = Rig(draft=draft)
    rig.run([ask([7], 30)])  # guesses need a pace
    request = Generate(token_ids=[0, 1, 2, 3, 4] * 20, max_tokens=max_tokens)
    request = replace(request, token_ids=request.token_ids[:size])
    rig.machine.furthest = rig.draft.furthest = 0
    [found] = rig.run([request])
    assert found.token_ids == expected(request).tokens
    assert found.usage.drafted_tokens or max_tokens < 5
    assert rig.machine.furthest == size + max_tokens - 1
    assert rig.draft.furthest <= rig.machine.furthest


def test_leaps_of_time_change_nothing_but_the_pace() -> None:
    rig = Rig(ClockSettings(draft_tokens=8))
    requests = [ask(TEXT[at : at + 100], 60, speculation="auto") for at in range(6)]
    tickets = [rig.clock.submit(request) for request in requests]
    while rig.clock.is_busy:
        rig.tick()
        if len(rig.records) % 7 == 0:
            rig.time.advance(36_000.0)
    for ticket, request in zip(tickets, requests, strict=True):
        assert rig.completion(ticket).token_ids == expected(request).tokens


def test_time_that_stands_still_is_no_harm() -> None:
    machine = Ledger(100)
    clock = Clock(machine, ledger_program(4096), 100, time=VirtualTime())
    tickets = [clock.submit(Generate(token_ids=TEXT[:n], max_tokens=30)) for n in (5, 200, 600)]
    done = [event.ticket for _ in range(200) for event in clock.tick() if event.last]
    assert set(done) == set(tickets)


# Too few pages


def test_the_last_who_came_gives_its_pages_back_and_comes_again() -> None:
    rig = Rig(pages=4)
    one, two = ask(TEXT[:20], 90), ask(TEXT[50:70], 90)
    tickets = [rig.clock.submit(each) for each in (one, two)]
    rig.drain()
    assert rig.clock.roster.preempted >= 1
    assert rig.ended() == tickets
    assert rig.completion(tickets[0]).token_ids == expected(one).tokens
    assert rig.completion(tickets[1]).token_ids == expected(two).tokens
    assert rig.completion(tickets[1]).usage.prompt_tokens == 20


def test_a_score_that_loses_its_pages_tells_each_row_once() -> None:
    rig = Rig(ClockSettings(tick_tokens=16, stretch=None), pages=5)
    answer = rig.clock.submit(ask(TEXT[:30], 120))
    request = Score(token_ids=TEXT[100:190], first=3)
    score = rig.clock.submit(request)
    rig.drain()
    values = rig.encoded(score).values
    assert values is not None
    check_score(request, values)
    assert rig.completion(answer).finish_reason == "length"


def test_pages_that_nobody_uses_make_room() -> None:
    rig = Rig(pages=8)
    for at in range(0, 1500, 100):
        [found] = rig.run([ask(TEXT[at : at + 200], 20)])
        assert found.finish_reason == "length"
        assert rig.clock.pages.available == 8
    assert rig.clock.pages.evicted > 50


# Records


def test_a_tick_is_accounted_for() -> None:
    rig = Rig()
    request = ask(TEXT[:40], 3)
    rig.run([request])
    first, *rest = rig.records
    assert (first.rows, first.prompt_tokens, first.tokens) == (40, 40, 1)
    assert [(each.rows, each.prompt_tokens, each.tokens) for each in rest] == [(1, 0, 1)] * 2
    assert [each.running for each in rig.records] == [1, 1, 0]
    assert rig.records[-1].cached_pages == 2
    assert first.execute == pytest.approx(0.05)
    assert first.seconds == pytest.approx(0.05)
    assert rest[0].started == pytest.approx(0.05)


def test_timings_are_those_of_the_clocks_time() -> None:
    rig = Rig(ClockSettings(streams=1))
    first, second = rig.run([ask(TEXT[:40], 3), ask(TEXT[100:150], 5)])
    assert first.timing.queue_s == 0
    assert first.timing.first_token_s == pytest.approx(0.05)
    assert first.timing.prompt_tokens_per_s == pytest.approx(40 / 0.05)
    assert first.timing.generation_tokens_per_s == pytest.approx(1 / 0.011)
    assert second.timing.queue_s == pytest.approx(0.05 + 2 * 0.011)
    assert second.timing.first_token_s == pytest.approx(0.072 + 0.06)


def test_memory_does_not_grow_with_requests_that_have_gone() -> None:
    rig = Rig(pages=8)

    def serve(count: int) -> int:
        for at in range(count):
            [found] = rig.run([ask([*TEXT[at % 50 :][:40], at % 40], 2, deadline_s=1e9, world=at)])
            assert len(found.token_ids) == 2
            rig.events.clear()
            rig.records.clear()
        del found
        gc.collect()
        return len(gc.get_objects())

    before = serve(300)
    assert serve(600) - before < 300


PAGES = range(1, 4 * PAGE_TOKENS)


@given(cut=st.sampled_from(PAGES), sizes=st.lists(st.sampled_from(PAGES), min_size=2, max_size=5))
def test_parting_from_others_in_the_middle_of_a_page_changes_nothing(
    cut: int, sizes: list[int]
) -> None:
    """All generate at once from pages that they have in common, each on a copy of its own."""
    rig = Rig()
    rig.run([ask(TEXT[:cut], 40)])
    requests = [ask(TEXT[:cut] + TEXT[size + 200 :][:size], 40) for size in sizes]
    found = rig.run(requests)
    assert [each.token_ids for each in found] == [expected(each).tokens for each in requests]
