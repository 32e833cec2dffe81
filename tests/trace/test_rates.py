"""Rates against what can be counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from overclock.machine.limits import Figure, Limits
from overclock.trace.board import Figures
from overclock.trace.rates import Look, Rates, rates
from tests.trace.boards import engine

LIMITS = Limits(
    cpu="x",
    cores=2,
    instruction_sets=(),
    measured="now",
    version="1",
    timer_ns=1.0,
    read_bandwidth_gbs={2: Figure(0.001, 0.001, 0.001)},  # 1 MB/s
    int8_gops={2: Figure(0.01, 0.01, 0.01)},  # 10 Mop/s
)

BEFORE = Figures(
    ticks=10,
    execute=1.0,
    write_back=1.0,
    runs=10,
    rows=20,
    tokens=100,
    prompt_tokens=50,
    requests=1,
    running=1,
    pages_read=5,
    at=100.0,
    seconds=(1.0, 2.0, 3.0),
)
AFTER = BEFORE._replace(
    ticks=14,
    execute=4.0,
    write_back=2.0,
    runs=14,
    rows=40,
    tokens=120,
    prompt_tokens=90,
    drafted=10,
    accepted=4,
    pages_read=55,
    at=110.0,
    seconds=(1.0, 4.0, 3.5),
)


def between(before: Figures, after: Figures, limits: Limits | None = LIMITS) -> Rates:
    found = rates(Look(engine(), before, 101.0), Look(engine(), after, 112.0), limits)
    assert found is not None
    return found


def test_what_happened_between_two_readings() -> None:
    found = between(BEFORE, AFTER)
    assert found.seconds == 10.0, "from tick to tick, not from look to look"
    assert found.ticks == 4
    assert found.tokens_per_s == 2.0
    assert found.prompt_tokens_per_s == 4.0
    assert found.tick == 1.0
    assert found.stages == (0.0, 0.0, 0.75, 0.25)
    assert found.opcodes == (("matmul", 2.0), ("attend", 0.5))
    assert found.accepted == 0.4


def test_the_limit_is_the_slower_of_reading_and_counting() -> None:
    # 4 runs of 50,000 bytes and 50 pages of 1,000 at 1 MB/s: 0.25 of 4 s; 20 rows of 7,000
    # operations at 10 Mop/s: 0.014 s.
    assert between(BEFORE, AFTER).limit == pytest.approx(0.25 / 4)
    many = AFTER._replace(rows=20 + 2000)  # 1.4 s
    assert between(BEFORE, many).limit == pytest.approx(1.4 / 4)


def test_what_has_not_been_measured_is_no_limit() -> None:
    assert between(BEFORE, AFTER, None).limit is None
    nothing = replace(LIMITS, read_bandwidth_gbs={})
    assert between(BEFORE, AFTER, nothing).limit is None
    only_bandwidth = replace(LIMITS, int8_gops={})
    assert between(BEFORE, AFTER, only_bandwidth).limit == pytest.approx(0.25 / 4)


def test_an_idle_engine_is_slow_and_not_unknown() -> None:
    idle = BEFORE._replace(running=0)
    found = between(idle, idle)
    assert (found.seconds, found.tokens_per_s, found.ticks) == (11.0, 0.0, 0)
    assert found.tick is None
    assert found.stages is None
    assert found.opcodes == ()
    assert found.limit is None
    woken = between(idle, AFTER)
    assert woken.seconds == 9.0, "from the look at the idle one to the last tick"
    asleep = between(BEFORE, AFTER._replace(running=0))
    assert asleep.seconds == 12.0


def test_a_tick_that_takes_longer_than_a_look() -> None:
    found = between(BEFORE, BEFORE)
    assert found.seconds == 0.0
    assert found.tokens_per_s == 0.0


def test_another_engine_or_one_that_went_back_has_no_rates() -> None:
    before, after = Look(engine(), BEFORE, 1.0), Look(engine(), AFTER, 2.0)
    assert rates(after, before, LIMITS) is None
    other = Look(engine(opened=5.0), AFTER, 2.0)
    assert rates(before, other, LIMITS) is None
