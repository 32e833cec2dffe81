"""Who ticks: many threads, readers that go away, and everything that may come in between."""

from __future__ import annotations

import gc
import random
import signal
import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Row
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock import LLM
from overclock.clock.clock import Clock
from overclock.clock.completion import Completion, Piece, Timing, Usage
from overclock.clock.request import Generate, Request, Score
from overclock.clock.roster import Event
from overclock.clock.sampling import Sampling
from overclock.clock.sequence import Ticket
from overclock.clock.settings import ClockSettings
from overclock.driver import Driver, Mailbox
from overclock.errors import InputError, MachineError, OverclockError, OverloadError
from overclock.reply import Reply, encoded
from tests.checkpoints import FIXTURES
from tests.clock.ledger import Ledger, ledger_program
from tests.clock.oracle import expected

PATIENCE_S = 60.0
"""Until a thread that should end is taken to be stuck."""

TEXT = np.random.default_rng(2).integers(0, 40, 1000).tolist()


class Counting:
    """A clock that gives each request `max_tokens` events, one a tick.

    during, after, handed_in: called in and behind a tick, and when a request was taken
    """

    def __init__(self) -> None:
        self.open: dict[Ticket, int] = {}
        self.cancelled: set[Ticket] = set()
        self.ticks = 0
        self.during: Callable[[], None] = lambda: None
        self.handed_in: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.is_silent = False  # a tick gives no events

    @property
    def is_busy(self) -> bool:
        return bool(self.open)

    def submit(self, request: Request) -> Ticket:
        ticket = Ticket(request, None, 0.0)
        assert isinstance(request, Generate)
        self.open[ticket] = request.max_tokens
        self.handed_in()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        self.cancelled.add(ticket)

    def tick(self) -> list[Event]:
        self.ticks += 1
        self.during()
        events = []
        for ticket in [] if self.is_silent else list(self.open):
            self.open[ticket] -= 1
            last = not self.open[ticket] or ticket in self.cancelled
            if last:
                del self.open[ticket]
            completion = Completion("", [], "length", Usage(1, 1), Timing(0, None, None, None))
            events.append(Event(ticket, Piece("x", completion if last else None), last))
        self.after()
        return events


def ask(max_tokens: int) -> Generate:
    return Generate(token_ids=[1], max_tokens=max_tokens, stream=True)


def read(driver: Driver, mail: Mailbox) -> int:
    """All events of a request; how many there were."""
    count = 1
    while not driver.wait(mail).last:
        count += 1
    return count


@contextmanager
def running(*works: Callable[[], object]) -> Iterator[None]:
    """Run each in a thread of its own, and see to it that all of them end."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    threads = [Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread is stuck"
    if errors:
        raise errors[0]


def clock_threads() -> set[Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "overclock-clock"}


# One clock, told what to do


def test_who_is_alone_ticks_itself() -> None:
    before = clock_threads()
    clock, mail = Counting(), Mailbox()
    driver = Driver(clock)
    driver.submit(ask(5), mail.deliver, alone=True)
    assert read(driver, mail) == 5
    assert clock.ticks == 5
    assert clock_threads() == before


def test_a_request_goes_on_while_nobody_reads_it_and_then_the_thread_rests() -> None:
    clock, mail = Counting(), Mailbox()
    driver = Driver(clock)
    driver.submit(ask(50), mail.deliver)
    assert read(driver, mail) == 50
    driver.stop()
    assert clock.ticks == 50


def test_two_who_thought_to_be_alone_are_both_served() -> None:
    clock = Counting()
    driver = Driver(clock)
    mails = [Mailbox(), Mailbox()]
    driver.submit(ask(200), mails[0].deliver, alone=True)
    driver.wait(mails[0])
    driver.submit(ask(300), mails[1].deliver, alone=True)
    counts: list[int] = []
    with running(*(lambda mail=mail: counts.append(read(driver, mail)) for mail in mails)):
        pass
    assert sorted(counts) == [199, 300]
    driver.stop()


def test_a_request_may_end_before_it_is_noted_down() -> None:
    """Handing in is two steps, and another thread may come to the end of a tick in between."""
    clock, first, second = Counting(), Mailbox(), Mailbox()
    driver = Driver(clock)
    in_tick, go_on, ticked = Flag(), Flag(), Flag()

    def hold() -> None:
        clock.during = lambda: None
        in_tick.set()
        assert go_on.wait(PATIENCE_S)

    def let_it_end() -> None:
        clock.after = ticked.set
        go_on.set()
        assert ticked.wait(PATIENCE_S)

    clock.during = hold
    driver.submit(ask(10**9), first.deliver)
    assert in_tick.wait(PATIENCE_S)
    clock.handed_in = let_it_end
    ticket = driver.submit(ask(1), second.deliver)
    assert driver.wait(second).ticket is ticket
    driver.stop()


def test_who_cancels_does_not_leave_a_waiting_one_behind() -> None:
    clock = Counting()
    driver = Driver(clock)
    mails = [Mailbox(), Mailbox()]
    first = driver.submit(ask(10), mails[0].deliver, alone=True)
    driver.submit(ask(10), mails[1].deliver, alone=True)
    in_tick, go_on = Flag(), Flag()

    def hold() -> None:
        clock.during = lambda: None
        in_tick.set()
        assert go_on.wait(PATIENCE_S)

    clock.during = hold
    clock.is_silent = True  # that tick is of no use to the other one
    with running(lambda: driver.cancel(first)):
        assert in_tick.wait(PATIENCE_S)
        take, taking = mails[1].take, Flag()

        def take_and_tell(block: bool = True, timeout: float | None = None) -> Event:
            taking.set()
            return take(block, timeout)

        mails[1].take = take_and_tell
        with running(lambda: read(driver, mails[1])):
            assert taking.wait(PATIENCE_S)  # it could not tick, and has no event
            go_on.set()
            clock.is_silent = False
    driver.stop()


def test_an_exception_in_a_tick_reaches_all_who_wait() -> None:
    clock = Counting()
    driver = Driver(clock)
    mails = [Mailbox() for _ in range(4)]
    for mail in mails:
        driver.submit(ask(10**9), mail.deliver)
    driver.wait(mails[0])

    def fail() -> None:
        raise ZeroDivisionError("a mistake of ours")

    found: list[str] = []

    def hear(mail: Mailbox) -> None:
        while True:
            event = driver.wait(mail)
            if event.last:
                assert isinstance(event.content, Piece)
                assert event.content.completion is not None
                found.append(str(event.content.completion.error))
                return

    with running(*(lambda mail=mail: hear(mail) for mail in mails)):
        clock.during = fail
    assert len(found) == 4
    assert all("the engine stopped: ZeroDivisionError: a mistake" in each for each in found)
    with pytest.raises(InputError, match="closed"):
        driver.submit(ask(1), mails[0].deliver)
    driver.stop()


def test_an_exception_in_ones_own_tick_is_heard_as_well() -> None:
    clock, mail = Counting(), Mailbox()
    driver = Driver(clock)
    driver.submit(ask(3), mail.deliver, alone=True)
    clock.during = lambda: [][0]
    content = driver.wait(mail).content
    assert isinstance(content, Piece)
    assert content.completion is not None
    assert content.completion.finish_reason == "error"


def test_ctrl_c_waits_for_the_end_of_a_tick() -> None:
    clock, mail = Counting(), Mailbox()
    driver = Driver(clock)
    handler = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[int] = []

    def interrupt() -> None:
        if clock.ticks == 3:
            signal.raise_signal(signal.SIGINT)
            done.append(clock.ticks)

    clock.during = interrupt
    try:
        ticket = driver.submit(ask(10), mail.deliver, alone=True)
        assert not driver.wait(mail).last
        assert not driver.wait(mail).last
        with pytest.raises(KeyboardInterrupt):
            driver.wait(mail)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert done == [3], "the tick was torn apart"
    assert read(driver, mail) == 8  # the event of that tick has come, and the rest may
    driver.cancel(ticket)
    driver.submit(ask(2), mail.deliver, alone=True)
    assert read(driver, mail) == 2


def test_closing_lets_end_what_is_under_way_and_stopping_does_not() -> None:
    for stop, counts in ((False, [500, 500]), (True, None)):
        clock = Counting()
        driver = Driver(clock)
        mails = [Mailbox(), Mailbox()]
        for mail in mails:
            driver.submit(ask(500), mail.deliver)
        (driver.stop if stop else driver.close)()
        with pytest.raises(InputError, match="closed"):
            driver.submit(ask(1), mails[0].deliver)
        found = [read(driver, mail) for mail in mails]
        assert found == counts if counts else max(found) < 500
        driver.stop()
        assert not clock.is_busy


# A clock and its machine


class Rig:
    """A driver whose answers can be checked."""

    def __init__(self, settings: ClockSettings | None = None, pages: int = 24) -> None:
        self.machine = Ledger(pages)
        self.clock = Clock(self.machine, ledger_program(200), pages, settings=settings)
        self.driver = Driver(self.clock)

    def ask(self, request: Request, *, alone: bool = False) -> Reply:
        assert isinstance(request, Generate)
        return Reply(self.driver, request, self, alone=alone)


def some_request(chance: random.Random) -> Generate:
    start = chance.randrange(3)
    return Generate(
        token_ids=[*TEXT[start:][: chance.randrange(1, 100)], chance.randrange(3)],
        max_tokens=chance.randrange(1, 40),
        sampling=Sampling(temperature=1.0, seed=chance.randrange(5)),
        deadline_s=chance.choice([None] * 8 + [0.0, 0.005]),
        stream=chance.random() < 0.5,
        priority=chance.randrange(-2, 3),
    )


@pytest.mark.parametrize("seed", range(4))
def test_threads_ask_read_leave_and_cancel_all_at_once(seed: int) -> None:
    rig = Rig(ClockSettings(streams=5, tick_tokens=64))

    def work(number: int) -> None:
        chance = random.Random(100 * seed + number)
        for _ in range(12):
            request = some_request(chance)
            reply = rig.ask(request, alone=chance.random() < 0.5)
            if chance.random() < 0.3:
                for _ in zip(range(chance.randrange(3)), reply, strict=False):
                    pass
            if chance.random() < 0.3:
                reply.cancel()
            if chance.random() < 0.15:
                continue  # and never read it
            pieces = list(reply)
            if not pieces:  # it was read to its end before
                continue
            completion = pieces[-1].completion
            assert completion is not None
            wanted = expected(request)
            assert completion.token_ids == wanted.tokens[: len(completion.token_ids)]
            if completion.finish_reason == "length":
                assert completion.token_ids == wanted.tokens

    with running(*(lambda number=number: work(number) for number in range(8))):
        pass
    rig.driver.stop()
    while rig.clock.is_busy:  # of those that nobody read
        rig.clock.tick()
    rig.clock.check_integrity()
    assert rig.clock.pages.available == rig.clock.pages.count


def test_scores_are_read_by_whoever_asked() -> None:
    rig = Rig()
    requests = [Score(token_ids=TEXT[: n + 1], first=n) for n in range(20)]

    def work() -> None:
        found = encoded(rig.driver, requests)
        assert [each.shape[0] for each in found] == [1] * 20

    with running(work, work, work):
        pass


def test_a_score_that_fails_takes_the_others_of_its_caller_along() -> None:
    rig = Rig()
    rig.machine.poison = 45
    requests = [Score(token_ids=[*TEXT[:n], 45]) for n in range(1, 5)]
    with pytest.raises(MachineError, match="45"):
        encoded(rig.driver, [Score(token_ids=TEXT[:9]), *requests])
    assert not rig.clock.is_busy
    assert rig.clock.pages.available == rig.clock.pages.count


def test_a_queue_that_is_full_refuses_and_harms_nobody() -> None:
    rig = Rig(ClockSettings(streams=1, queue=1))
    request = Generate(token_ids=TEXT[:5], max_tokens=150)
    replies = [rig.ask(request, alone=True) for _ in range(2)]
    with pytest.raises(OverloadError):
        rig.ask(request, alone=True)
    assert [reply.result().finish_reason for reply in replies] == ["length"] * 2
    rig.driver.stop()


def test_a_clock_that_broke_tells_scores_too() -> None:
    rig = Rig()
    rig.machine.run = lambda batch: [][0]  # type: ignore[method-assign]
    with pytest.raises(OverclockError, match="the engine stopped: IndexError"):
        encoded(rig.driver, [Score(token_ids=[1, 2])])
    with pytest.raises(InputError, match="closed"):
        rig.ask(Generate(token_ids=[1], max_tokens=1))


# The face


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(FIXTURES / "llama", kv_memory=1 << 20) as opened:
        yield opened


def test_lists_streams_and_single_prompts_in_many_threads(llm: LLM) -> None:
    prompts = [[n + 1, n + 2, n + 3] for n in range(12)]
    wanted = [each.token_ids for each in llm.generate(prompts, 20, ignore_eos=True)]

    def as_list() -> None:
        found = llm.generate(prompts, 20, ignore_eos=True)
        assert [each.token_ids for each in found] == wanted

    def one_by_one() -> None:
        for prompt, tokens in zip(prompts, wanted, strict=True):
            assert llm.generate(prompt, 20, ignore_eos=True).token_ids == tokens

    def streamed() -> None:
        for prompt, tokens in zip(prompts, wanted, strict=True):
            stream = llm.generate(prompt, 20, ignore_eos=True, stream=True)
            assert [token for piece in stream for token in piece.token_ids] == tokens

    def left() -> None:
        for prompt in prompts:
            stream = llm.generate(prompt, 100, ignore_eos=True, stream=True)
            next(stream)
            stream.close()

    def handed_in() -> None:
        replies = [llm.submit(prompt, 20, ignore_eos=True) for prompt in prompts]
        assert [reply.result().token_ids for reply in replies] == wanted

    with running(*[as_list, one_by_one, streamed, left, handed_in] * 3):
        pass
    llm.clock.check_integrity()


def test_one_of_a_list_that_fails_ends_the_others(llm: LLM) -> None:
    def broken(tokens: Row[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        raise KeyError("mine")

    with pytest.raises(InputError, match="KeyError"):
        llm.generate([[1, 2], [3, 4]], 100, logits_processor=broken)
    while llm.clock.is_busy:  # the thread ends them
        threading.Event().wait(0.001)
    assert llm.clock.pages.available == llm.clock.pages.count


def test_a_model_that_is_forgotten_gives_its_thread_back() -> None:
    before = clock_threads()
    opened = LLM(FIXTURES / "llama", kv_memory=1 << 20)
    opened.generate([[1], [2]], 3)
    reply = opened.submit([1, 2, 3], 100, ignore_eos=True)
    assert len(clock_threads() - before) == 1
    reply.result()
    del opened, reply
    gc.collect()
    assert clock_threads() == before


def test_what_is_asked_of_a_model_that_nobody_else_holds_is_answered() -> None:
    stream = LLM(FIXTURES / "llama", kv_memory=1 << 20).generate(
        [1, 2], 30, ignore_eos=True, stream=True
    )
    reply = LLM(FIXTURES / "llama", kv_memory=1 << 20).submit([1, 2], 30, ignore_eos=True)
    gc.collect()
    assert sum(len(piece.token_ids) for piece in stream) == 30
    assert reply.result().finish_reason == "length"


def test_closing_a_model_lets_its_answers_end() -> None:
    opened = LLM(FIXTURES / "llama", kv_memory=1 << 20)
    replies = [opened.submit([n + 1], 60, ignore_eos=True) for n in range(5)]
    stream = opened.generate([9], 60, ignore_eos=True, stream=True)
    next(stream)
    opened.close()
    with pytest.raises(InputError, match="closed"):
        opened.generate([1])
    assert {reply.result().finish_reason for reply in replies} == {"length"}
    assert list(stream)[-1].completion is not None
