"""Who watches a clock: complete records while it watches, nothing before and after."""

from __future__ import annotations

import pytest

from overclock.clock.clock import Clock
from overclock.clock.request import Generate
from overclock.clock.settings import ClockSettings
from overclock.clock.time import VirtualTime
from overclock.driver import Driver
from overclock.reply import Reply
from overclock.trace.record import RequestRecord, TickRecord
from tests.clock.ledger import Ledger, ledger_program


class Watcher:
    """Keeps all that it is told; may raise at a tick."""

    def __init__(self, *, detail: bool = True, raises: bool = False) -> None:
        self.wants_detail = detail
        self.raises = raises
        self.ticks: list[TickRecord] = []
        self.requests: list[RequestRecord] = []

    def tick(self, record: TickRecord) -> None:
        self.ticks.append(record)
        if self.raises:
            raise ValueError("a watcher that fails")

    def request(self, record: RequestRecord) -> None:
        self.requests.append(record)


def rig(streams: int = 8) -> tuple[Clock, Ledger]:
    time = VirtualTime()
    machine = Ledger(100, time, 0.01, 0.001)
    clock = Clock(
        machine, ledger_program(4096), 100, settings=ClockSettings(streams=streams), time=time
    )
    return clock, machine


def ask(clock: Clock, count: int, tokens: int = 5) -> None:
    for number in range(count):
        clock.submit(
            Generate(
                token_ids=[number, 1, 2, 3], max_tokens=tokens, ends=frozenset(), tokenize_s=0.5
            )
        )
    while clock.is_busy:
        clock.tick()
        clock.check_integrity()


def test_records_are_complete_and_in_order() -> None:
    clock, _ = rig(streams=2)
    seen = Watcher()
    clock.watch(seen)
    ask(clock, 5)
    assert len(seen.requests) == 5
    for each in seen.requests:
        assert each.admitted is not None
        assert each.first_token is not None
        assert each.last_token is not None
        times = (each.arrived, each.admitted, each.first_token, each.last_token, each.ended)
        assert list(times) == sorted(times)
        assert (each.prompt, each.tokens, each.finish) == (4, 5, "length")
        assert each.tokenize == 0.5
    assert sum(each.tokens for each in seen.ticks) == 25
    for tick in seen.ticks:
        assert tick.detail is not None
        assert int(tick.detail.lengths.sum()) == tick.rows
        assert tick.detail.selected <= tick.rows
        assert (tick.detail.choose, tick.detail.text) == (0.0, 0.0)  # virtual time stands still


def test_what_is_remembered_of_a_batch_does_not_change_with_the_next() -> None:
    clock, _ = rig(streams=1)
    seen = Watcher()
    clock.watch(seen)
    ask(clock, 1)
    contexts = [int(t.detail.contexts[0]) for t in seen.ticks if t.detail is not None]
    assert contexts == [0, 4, 5, 6, 7]


def test_nothing_is_told_before_and_after() -> None:
    clock, _ = rig()
    seen = Watcher()
    ask(clock, 1)
    clock.watch(seen)
    clock.unwatch(seen)
    ask(clock, 1)
    assert seen.ticks == []
    assert seen.requests == []
    assert clock.last is not None
    assert clock.last.detail is None
    assert clock.roster.requests is None


def test_a_watcher_without_detail_costs_none_and_one_with_it_serves_both() -> None:
    clock, _ = rig()
    plain, keen = Watcher(detail=False), Watcher()
    clock.watch(plain)
    ask(clock, 1)
    assert all(tick.detail is None for tick in plain.ticks)
    clock.watch(keen)
    ask(clock, 1)
    assert keen.ticks == plain.ticks[-len(keen.ticks) :]
    assert all(tick.detail is not None for tick in keen.ticks)
    clock.unwatch(keen)
    count = len(plain.ticks)
    ask(clock, 1)
    assert all(tick.detail is None for tick in plain.ticks[count:])
    assert len(plain.requests) == 3


def test_a_watcher_that_raises_harms_nobody_and_is_told_of_it() -> None:
    clock, _ = rig()
    broken, seen = Watcher(raises=True), Watcher()
    clock.watch(broken)
    clock.watch(seen)
    driver = Driver(clock)
    request = Generate(token_ids=[1, 2, 3], max_tokens=4, ends=frozenset())
    assert len(Reply(driver, request, None, alone=True).result().token_ids) == 4
    assert len(broken.ticks) == 1
    assert len(seen.requests) == 1
    with pytest.raises(ValueError, match="a watcher that fails"):
        clock.unwatch(broken)
    clock.unwatch(seen)
    clock.watch(broken)  # a new beginning
    broken.raises = False
    ask(clock, 1)
    clock.unwatch(broken)
    assert len(broken.requests) == 1


def test_a_request_that_fails_has_a_record_too() -> None:
    clock, machine = rig()
    machine.fail_at = {0, 1}
    seen = Watcher()
    clock.watch(seen)
    ask(clock, 1)
    (record,) = seen.requests
    assert record.finish == "error"
    assert record.first_token is None
    assert record.tokens == 0
    assert record.admitted is not None
    assert record.arrived <= record.admitted <= record.ended
