"""What can be served, found by trying, against servers whose capacity is known."""

from __future__ import annotations

import pytest

from overclock.errors import InputError
from overclock.simulate.lengths import Fixed, Uniform
from overclock.simulate.run import Result, simulate
from overclock.simulate.sweep import (
    EXACT,
    Target,
    capacity,
    fewest_replicas,
    highest_rate,
    sweep,
)
from overclock.simulate.workload import ClosedLoop, OpenLoop, Sizes
from tests.simulate.rig import ONE, Linear, setup

# One stream, five ticks of 10 ms a request: 20 requests a second, 10 ms to the first token.
SERVER = setup(Linear(0.01), ONE)
EVEN = OpenLoop(rate=1.0, duration=60.0, process="constant", sizes=Sizes(output=Fixed(5)))


def ignore(result: Result) -> None:
    """Nobody looks."""


def test_the_capacity_of_one_stream() -> None:
    assert capacity(SERVER, EVEN) == pytest.approx(20)


def test_the_capacity_of_streams_that_run_together() -> None:
    # Three streams in ticks of 10 ms that all share, once their prompts are through.
    three = setup(Linear(0.01), type(ONE)(streams=3, queue=9, stretch=None))
    assert capacity(three, EVEN) == pytest.approx(60, rel=0.02)


def test_the_highest_rate_of_even_arrivals_is_the_capacity() -> None:
    found = highest_rate(SERVER, EVEN, Target(first=0.0101), ignore)
    assert found.best is not None
    assert found.best.nominal == pytest.approx(20, rel=1.5 * EXACT)
    assert Target(first=0.0101).is_met(found.best)


def test_a_target_allows_poisson_less() -> None:
    load = OpenLoop(rate=1.0, duration=100.0, sizes=Sizes(output=Uniform(1, 9)))
    told: list[Result] = []
    found = highest_rate(SERVER, load, Target(first=0.06, percent=90), told.append)
    assert found.best is not None
    assert 2 < found.best.nominal < 16
    assert told == found.tried
    assert all(
        each.first.percentile(90) <= 0.06 for each in told if each.nominal <= found.best.nominal
    )
    assert any(
        found.best.nominal < each.nominal < 1.05 * found.best.nominal
        and each.first.percentile(90) > 0.06
        for each in told
    )


def test_a_target_that_nothing_meets() -> None:
    assert highest_rate(SERVER, EVEN, Target(first=0.009), ignore).best is None
    assert highest_rate(SERVER, EVEN, Target(gap=0.009), ignore).best is None
    assert fewest_replicas(SERVER, EVEN, Target(gap=0.009), ignore).best is None


@pytest.mark.parametrize(("rate", "replicas"), [(5.0, 1), (19.0, 1), (39.0, 2), (70.0, 4)])
def test_as_many_replicas_as_even_arrivals_need(rate: float, replicas: int) -> None:
    found = fewest_replicas(
        SERVER, EVEN.at_rate(rate).within(10.0), Target(first=0.0101), ignore, "round-robin"
    )
    assert found.best is not None
    assert found.best.replicas == replicas


def test_a_tight_target_needs_more_replicas_than_the_load_alone() -> None:
    load = OpenLoop(rate=36.0, duration=30.0, sizes=Sizes(output=Fixed(5)))
    found = fewest_replicas(SERVER, load, Target(first=0.02), ignore)
    assert found.best is not None
    assert found.best.replicas > 2
    fewer = simulate(SERVER, load, replicas=found.best.replicas - 1)
    assert not Target(first=0.02).is_met(fewer)


def test_a_sweep_is_one_run_for_each_rate() -> None:
    found = list(sweep(SERVER, EVEN, [2.0, 30.0]))
    assert [each.nominal for each in found] == [2.0, 30.0]
    assert [each.is_stable for each in found] == [True, False]


def test_users_in_a_closed_loop_have_no_rate_to_find() -> None:
    users = ClosedLoop(users=3, think=1.0, duration=9.0)
    with pytest.raises(InputError, match="no rate"):
        fewest_replicas(SERVER, users, Target(), ignore)
    with pytest.raises(InputError, match="no rate"):
        highest_rate(SERVER, users, Target(), ignore)


def test_impossible_targets() -> None:
    for values in (
        (0.0, None, 95.0),
        (None, float("nan"), 95.0),
        (1.0, 1.0, 0.0),
        (1.0, 1.0, 101.0),
    ):
        with pytest.raises(InputError, match=r"possible"):
            Target(*values)
