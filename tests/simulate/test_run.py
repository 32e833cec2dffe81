"""Loads against queueing theory, and the laws that hold for all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overclock.clock.settings import ClockSettings
from overclock.errors import InputError
from overclock.simulate.arrivals import Profile
from overclock.simulate.lengths import Fixed, Lengths, Lognormal, Uniform
from overclock.simulate.measure import Steps
from overclock.simulate.recorded import Recorded
from overclock.simulate.run import Balance, is_stable, simulate
from overclock.simulate.station import Log, Station
from overclock.simulate.workload import (
    Arrival,
    ClosedLoop,
    OpenLoop,
    Prefixes,
    Sizes,
    Workload,
)
from tests.simulate.rig import CONTEXT, ONE, Linear, calibrated, logged, setup

TICK = 0.01


def open_loop(
    rate: float, count: int, output: Lengths, prompt: Lengths | None = None, **options: object
) -> OpenLoop:
    """About so many requests, one tick for each prompt unless it is said to be longer."""
    sizes = Sizes(prompt=prompt or Fixed(8), output=output, seed=3)
    return OpenLoop(rate=rate, duration=count / rate, sizes=sizes, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("busy", [0.3, 0.7, 0.85])
@pytest.mark.parametrize("output", [Fixed(5), Uniform(1, 19)])
def test_one_stream_waits_as_pollaczek_and_khinchine_say(busy: float, output: Lengths) -> None:
    # A request takes one tick for each token of its answer: the first comes with its prompt.
    times = TICK * output.draw(np.random.default_rng(0), 200_000)
    rate = busy / times.mean()
    wait = rate * (times**2).mean() / (2 * (1 - busy))
    result = simulate(setup(settings=ONE), open_loop(rate, 8000, output))
    assert result.wait.mean == pytest.approx(wait, rel=0.12)
    assert result.busy == pytest.approx(busy, rel=0.02)
    # Little: those that wait are the rate times the wait.
    assert result.queue.mean == pytest.approx(result.rate * result.wait.mean, rel=0.01)
    assert result.is_stable


def test_a_load_that_comes_at_once_has_no_length_to_be_told_parts_of() -> None:
    told: list[tuple[float, float]] = []
    load = Recorded((Arrival(at=0.0, prompt=8, output=5),) * 3)
    result = simulate(
        setup(settings=ONE), load, progress=lambda done, total: told.append((done, total))
    )
    assert (result.came, result.ended, told) == (3, 3, [])


def test_constant_arrivals_that_leave_time_never_wait() -> None:
    result = simulate(setup(settings=ONE), open_loop(19.0, 500, Fixed(5), process="constant"))
    assert result.first.percentiles([0, 100]) == pytest.approx([TICK, TICK])
    assert result.latency.percentiles([0, 100]) == pytest.approx([5 * TICK, 5 * TICK])
    assert result.gap.percentiles([0, 100]) == pytest.approx([TICK, TICK])
    assert result.queue.most == 0


def test_every_second_of_a_tick_counts() -> None:
    # 8 tokens of a prompt in one run, then four runs of one token behind 8, 9, 10 and 11.
    tempo = Linear(run_s=1.0, row_s=0.1, past_s=0.01, stages_s=0.5, admission_s=0.02)
    [served] = logged(setup(tempo), Recorded((Arrival(2.0, 8, 5),))).served
    first = 1.0 + 0.8 + 0.5 + 8 * 0.02
    rest = 4 * (1.0 + 0.1 + 0.5) + 0.01 * (8 + 9 + 10 + 11)
    assert served.admitted == 2.0
    assert served.first == pytest.approx(2.0 + first)
    assert served.ended == pytest.approx(2.0 + first + rest)


SIZES = st.builds(
    Sizes,
    prompt=st.sampled_from([Fixed(1), Uniform(1, 300), Lognormal(90, 1.0)]),
    output=st.sampled_from([Fixed(1), Uniform(1, 150), Lognormal(60, 1.0)]),
    prefixes=st.none() | st.builds(Prefixes, st.integers(1, 4), st.integers(1, 100)),
    seed=st.integers(0, 1000),
)
LOADS = st.builds(
    OpenLoop,
    rate=st.sampled_from([2.0, 8.0, 30.0]),
    duration=st.just(6.0),
    process=st.sampled_from(["poisson", "constant", "burst"]),
    sizes=SIZES,
) | st.builds(
    ClosedLoop,
    users=st.integers(1, 30),
    think=st.sampled_from([0.0, 0.5]),
    duration=st.just(3.0),
    sizes=SIZES,
)
SETTINGS = st.builds(
    ClockSettings,
    streams=st.sampled_from([1, 3, 16]),
    queue=st.sampled_from([0, 4, 4096]),
    tick_tokens=st.sampled_from([16, 512]),
    stretch=st.sampled_from([None, 1.2, 2.0]),
)
TEMPO = Linear(run_s=0.004, row_s=0.0003, past_s=1e-7, stages_s=1e-5, admission_s=1e-6)


def gaps(log: Log) -> list[float]:
    return sorted(gap for gap, n in zip(log.gaps, log.times, strict=True) for _ in range(n))


def with_haste(load: Workload, every: int) -> Workload:
    """Every so many requests are urgent and have little time."""
    source = load.source()
    arrivals: list[Arrival] = []
    while source.next_at < load.duration and len(arrivals) < 150:
        each = source.take()
        source.ended(each, each.at + 0.1)
        hasty = len(arrivals) % every == 0
        arrivals.append(
            Arrival(
                each.at,
                each.prompt,
                each.output,
                each.prefix,
                each.prefix_tokens,
                priority=int(hasty),
                deadline_s=0.25 if hasty else None,
            )
        )
    return Recorded(tuple(arrivals or [Arrival(0.0, 1, 1)]))


RATIOS = [(1.0,), (0.9, 1.0, 1.3), (0.97, 0.98, 1.0, 1.0, 1.02, 4.0)]


@settings(max_examples=60, deadline=None)
@given(
    LOADS,
    SETTINGS,
    st.sampled_from([64, 80, 4096]),
    st.sampled_from([0, 2, 5]),
    st.sampled_from(RATIOS),
)
def test_leaps_change_nothing(
    load: Workload, chosen: ClockSettings, pages: int, hasty: int, ratios: tuple[float, ...]
) -> None:
    load = with_haste(load, hasty) if hasty else load
    leaping, plain = (
        logged(setup(replace(TEMPO, ratios=ratios), chosen, pages, leaps=leaps), load)
        for leaps in (True, False)
    )
    assert leaping.served == plain.served
    assert leaping.refused == plain.refused
    assert gaps(leaping) == gaps(plain)
    assert leaping.ticks == plain.ticks
    assert leaping.preempted == plain.preempted


def test_leaps_change_nothing_where_times_are_kept_by_pages() -> None:
    load = open_loop(6.0, 60, Uniform(1, 150), Uniform(1, 300))
    leaping, plain = (
        logged(setup(calibrated(TEMPO, RATIOS[1]), leaps=leaps), load) for leaps in (True, False)
    )
    assert leaping.ticks > 500
    assert leaping.served == plain.served
    assert gaps(leaping) == gaps(plain)


def test_equal_ticks_differ_as_they_were_measured_to() -> None:
    # One request of 6,000 tokens after the other: all ticks take 10 ms by their median.
    ratios = (0.9, 1.0, 1.0, 1.4)
    load = Recorded(tuple(Arrival(0.0, 8, 1500) for _ in range(4)))
    log = logged(setup(Linear(ratios=ratios), ONE), load)
    found = np.round(np.repeat(log.gaps, log.times) / TICK, 9)
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == sorted(set(ratios))
    # Four deviations of a binomial.
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        share = ratios.count(value) / len(ratios)
        slack = 4 * (len(found) * share * (1 - share)) ** 0.5
        assert count == pytest.approx(len(found) * share, abs=slack)
    assert log.busy == pytest.approx(sum(each.ended - each.admitted for each in log.served))


def test_leaps_are_leapt() -> None:
    load = Recorded((Arrival(0.0, 10, 500),))
    looks = []
    for leaps in (True, False):
        station = Station(setup(leaps=leaps))
        station.submit(next(load.requests()))
        looks.append(0)
        while station.due < float("inf"):
            station.tick(float("inf"))
            looks[-1] += 1
        assert station.log.ticks == 500
    assert looks == [2, 500]


@settings(max_examples=25, deadline=None)
@given(LOADS, SETTINGS, st.sampled_from([64, 4096]))
def test_nothing_is_lost(load: Workload, chosen: ClockSettings, pages: int) -> None:
    log = logged(setup(TEMPO, chosen, pages), load)
    tokens = 0
    for each in log.served:
        arrival = each.arrival
        assert each.finish == "length"
        assert each.tokens == min(arrival.output, CONTEXT - min(arrival.prompt, CONTEXT) + 1)
        assert each.first is not None
        assert arrival.at <= each.admitted < each.first <= each.ended + 1e-9
        assert each.cached < arrival.prompt
        tokens += each.tokens
    # Every token but an answer's first has a gap before it.
    assert sum(log.times) == tokens - len(log.served)
    assert all(gap > 0 for gap in log.gaps)


def test_gaps_of_a_request_add_up_though_it_lost_its_pages() -> None:
    # 64 pages of 32 tokens: two answers of 1,200 tokens cannot grow to their ends together.
    load = Recorded((Arrival(0.0, 8, 1200), Arrival(0.0, 8, 1200)))
    log = logged(setup(Linear(row_s=0.001), ClockSettings(stretch=None), pages=64), load)
    assert log.preempted > 0
    spans = sum(each.ended - (each.first or 0.0) for each in log.served)
    assert sum(gap * n for gap, n in zip(log.gaps, log.times, strict=True)) == pytest.approx(spans)


def test_the_same_seed_is_the_same_load_and_another_is_not() -> None:
    def run(seed: int) -> list[float]:
        sizes = Sizes(prompt=Uniform(1, 90), output=Uniform(1, 90), seed=seed)
        log = logged(setup(TEMPO), OpenLoop(rate=20.0, duration=5.0, sizes=sizes))
        return [each.ended for each in log.served]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_more_load_makes_nobody_faster() -> None:
    base = open_loop(1.0, 400, Uniform(1, 99), Uniform(1, 200))
    found = [
        simulate(setup(TEMPO), base.at_rate(rate).within(400 / rate)) for rate in (2, 6, 10, 14)
    ]
    firsts = [each.first.percentile(95) for each in found]
    latencies = [each.latency.mean for each in found]
    assert firsts == sorted(firsts)
    assert latencies == sorted(latencies)


@pytest.mark.parametrize("balance", ["least", "round-robin", "random"])
def test_more_replicas_make_nobody_wait_longer(balance: Balance) -> None:
    load = open_loop(30.0, 1500, Uniform(1, 29))
    waits = [
        simulate(setup(settings=ONE), load, replicas=count, balance=balance).wait.mean
        for count in (5, 8, 30)
    ]
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] < waits[0] / 2


def test_two_replicas_in_turn_are_two_servers_of_every_second_request() -> None:
    load = open_loop(8.0, 400, Uniform(1, 30))
    arrivals: list[Arrival] = []
    source = load.source()
    while source.next_at < float("inf"):
        arrivals.append(source.take())
    halves = [
        logged(setup(settings=ONE), Recorded(tuple(arrivals[start::2]))).served
        for start in range(2)
    ]
    both = simulate(setup(settings=ONE), load, replicas=2, balance="round-robin")
    apart = sorted(each.ended - each.arrival.at for half in halves for each in half)
    assert both.latency.values.tolist() == pytest.approx(apart)


def test_the_shortest_queue_is_better_than_chance() -> None:
    load = open_loop(30.0, 3000, Uniform(1, 29))
    least, chance = (
        simulate(setup(settings=ONE), load, replicas=6, balance=balance).wait.mean
        for balance in ("least", "random")
    )
    assert least < chance


@pytest.mark.parametrize(
    ("rate", "stable"), [(5.0, True), (16.0, True), (25.0, False), (60.0, False)]
)
def test_what_cannot_be_served_is_unstable(rate: float, stable: bool) -> None:
    # One stream does 20 requests a second.
    result = simulate(setup(settings=ONE), open_loop(rate, 2000, Fixed(5)))
    assert result.is_stable is stable
    assert result.throughput <= 20.001
    if not stable:
        assert result.throughput == pytest.approx(20, rel=0.01)


def test_a_full_queue_refuses_and_is_no_sign_of_stability() -> None:
    chosen = ClockSettings(streams=1, queue=10)
    result = simulate(setup(settings=chosen), open_loop(40.0, 2000, Fixed(5)))
    assert result.refused == pytest.approx(1000, rel=0.1)
    assert result.ended + result.refused == result.came
    assert result.queue.most <= 12
    assert not result.is_stable


def test_stability_by_hand() -> None:
    def growing(by: float) -> Steps:
        steps = Steps()
        for second in range(100):
            steps.note(float(second), by * second)
        return steps

    # From the second quarter to the last, the mean grows by 50 seconds' worth.
    assert is_stable(growing(0.8), 100.0, 1000)  # 40 > 5 % of 500, but chance is 2 · √500 = 45
    assert not is_stable(growing(1.0), 100.0, 1000)  # 50 > 45
    assert is_stable(growing(1.0), 100.0, 4000)  # 50 < 5 % of 2000


def test_users_who_wait_for_answers_never_pile_up() -> None:
    # One stream, 3 users who think 0.1 s: never more than 3 inside.
    load = ClosedLoop(users=3, think=0.1, duration=60.0, sizes=Sizes(output=Fixed(5)))
    result = simulate(setup(settings=ONE), load)
    assert result.inside.most <= 3
    # The response time law: users = rate · (think + latency).
    assert result.throughput * (0.1 + result.latency.mean) == pytest.approx(3, rel=0.05)


def test_prefixes_are_run_once() -> None:
    sizes = Sizes(prompt=Fixed(16), output=Fixed(2), prefixes=Prefixes(1, 64))
    load = OpenLoop(rate=1.0, duration=100.0, process="constant", sizes=sizes)
    result = simulate(setup(), load)
    assert result.cached == pytest.approx(64 * 99 / (80 * 100))
    without = simulate(setup(settings=ClockSettings(share_prefixes=False)), load)
    assert without.cached == 0


def test_requests_that_begin_alike_by_accident_share_nothing() -> None:
    load = OpenLoop(rate=100.0, duration=9.0, process="constant", sizes=Sizes(output=Fixed(1)))
    assert simulate(setup(), load).cached == 0


def test_deadlines_that_pass_are_told() -> None:
    late = Arrival(0.0, 8, 100, deadline_s=0.5)
    result = simulate(setup(), Recorded((late, Arrival(0.0, 8, 100, deadline_s=2.0))))
    assert (result.late, result.ended) == (1, 1)
    assert result.seconds == pytest.approx(1.0)


def test_what_is_longer_than_the_context_is_cut() -> None:
    result = simulate(setup(), Recorded((Arrival(0.0, CONTEXT + 9, 9), Arrival(0.0, 9, 10**6))))
    assert (result.cut, result.ended) == (2, 2)
    assert result.tokens == 1 + (CONTEXT - 9 + 1)


def test_a_profile_moves_the_arrivals() -> None:
    load = OpenLoop(
        rate=2.0, duration=30.0, process="constant", profile=Profile((0.0, 10.0), (1.0, 3.0))
    )
    source, times = load.source(), []
    while source.next_at < float("inf"):
        times.append(source.take().at)
    assert sum(at <= 10 for at in times) == 20
    assert sum(at > 10 for at in times) == 120


def test_impossible_numbers_of_replicas() -> None:
    with pytest.raises(InputError, match="0 replicas"):
        simulate(setup(), open_loop(1.0, 1, Fixed(1)), replicas=0)
