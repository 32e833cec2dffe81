"""Distributions against their own parameters, and what no workload can be."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.simulate.arrivals import FLAT, Process, Profile, day, parse_profile
from overclock.simulate.lengths import Empirical, Fixed, Lengths, Lognormal, Uniform, parse_lengths
from overclock.simulate.workload import Arrival, ClosedLoop, OpenLoop, Prefixes, Sizes, Workload


def arrivals(load: Workload) -> list[Arrival]:
    source, found = load.source(), []
    while source.next_at < inf:
        found.append(source.take())
    return found


@pytest.mark.parametrize(
    ("text", "lengths", "mean", "deviation"),
    [
        ("64", Fixed(64), 64, 0),
        ("fixed:64", Fixed(64), 64, 0),
        ("uniform:11,31", Uniform(11, 31), 21, np.sqrt((21**2 - 1) / 12)),
        ("lognormal:200,0.8", Lognormal(200, 0.8), 200, 160),
        ("any:10,10,40", Empirical((10, 10, 40)), 20, np.sqrt(200)),
    ],
)
def test_lengths(text: str, lengths: Lengths, mean: float, deviation: float) -> None:
    assert parse_lengths(text) == lengths
    drawn = lengths.draw(np.random.default_rng(1), 200_000)
    assert drawn.min() >= 1
    assert drawn.mean() == pytest.approx(mean, rel=0.01)
    assert drawn.std() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "0", "-3", "1.5", "nan", "inf", "fixed:", "fixed:1,2", "uniform:3", "1e300"),
        *("uniform:9,3", "uniform:0,3", "lognormal:5", "lognormal:0,1", "lognormal:5,-1"),
        *("lognormal:5,nan", "lognormal:5,1,1", "any:", "any:1,0", "normal:3,4"),
    ],
)
def test_words_that_are_no_lengths(text: str) -> None:
    with pytest.raises(InputError, match="says nothing about numbers of tokens"):
        parse_lengths(text)


@pytest.mark.parametrize(
    ("process", "cv", "deviation"),
    [("poisson", 2.0, 1.0), ("constant", 2.0, 0.0), ("burst", 3.0, 3.0), ("burst", 0.5, 0.5)],
)
def test_arrivals_have_their_rate_and_deviation(
    process: Process, cv: float, deviation: float
) -> None:
    load = OpenLoop(rate=20.0, duration=5000.0, process=process, cv=cv)
    gaps = np.diff([each.at for each in arrivals(load)])
    assert gaps.mean() == pytest.approx(0.05, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(deviation, rel=0.05, abs=1e-6)


def test_another_rate_is_the_same_requests_at_other_times() -> None:
    load = OpenLoop(rate=5.0, duration=20.0, sizes=Sizes(prompt=Uniform(1, 99), seed=4))
    slow, fast = arrivals(load), arrivals(load.at_rate(10.0).within(10.0))
    assert [each.at for each in slow] == pytest.approx([2 * each.at for each in fast])
    assert [each.prompt for each in slow] == [each.prompt for each in fast]


def test_prefixes_follow_zipf() -> None:
    names = Prefixes(3, 10).draw(np.random.default_rng(0), 60_000)
    counts = [names.count(str(number)) / 60_000 for number in range(3)]
    assert counts == pytest.approx([6 / 11, 3 / 11, 2 / 11], rel=0.03)
    first = arrivals(OpenLoop(rate=1.0, duration=9.0, sizes=Sizes(prefixes=Prefixes(3, 10))))[0]
    assert (first.prompt, first.prefix_tokens) == (128 + 10, 10)


def test_profiles() -> None:
    steps = Profile((0.0, 10.0, 20.0), (1.0, 0.0, 2.0))
    assert parse_profile("0:1, 10:0,20:2", 60.0) == steps
    # At two a second: 20 in the first 10 s, none in the next, then four a second.
    assert steps.times(np.array([10.0, 20.0, 24.0]), 2.0).tolist() == [5.0, 20.0, 21.0]
    assert Profile((0.0, 5.0), (1.0, 0.0)).times(np.array([4.0, 9.0]), 1.0).tolist() == [4.0, inf]
    ends = day(86400.0, 4.0)
    assert max(ends.factors) / min(ends.factors) == pytest.approx(4, rel=0.02)
    assert np.mean(ends.factors) == pytest.approx(1)
    assert parse_profile("day:4", 86400.0) == ends


@pytest.mark.parametrize(
    "text", ["", "5", "1:1", "0:1,0:2", "0:-1", "0:0", "0:nan", "day:", "day:0.5", "day:2,0:1"]
)
def test_words_that_are_no_profile(text: str) -> None:
    with pytest.raises(InputError):
        parse_profile(text, 60.0)


def test_users_think_between_answers() -> None:
    source = ClosedLoop(users=2, think=1.0, duration=1e4).source()
    last = {0: 0.0, 1: 0.0}
    thoughts = []
    while source.next_at < inf:
        each = source.take()
        thoughts.append(each.at - last[each.user])
        last[each.user] = each.at + 0.5
        source.ended(each, each.at + 0.5)
    assert np.mean(thoughts) == pytest.approx(1.0, rel=0.03)
    assert min(thoughts) >= 0


BAD = st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e12])


@given(BAD, BAD)
def test_impossible_loads(rate: float, duration: float) -> None:
    with pytest.raises(InputError):
        OpenLoop(rate=rate, duration=duration)


def test_other_impossible_loads() -> None:
    for make in (
        lambda: ClosedLoop(users=0, think=1.0, duration=1.0),
        lambda: ClosedLoop(users=1, think=-1.0, duration=1.0),
        lambda: ClosedLoop(users=1, think=1.0, duration=0.0),
        lambda: ClosedLoop(users=1, think=1.0, duration=1.0).at_rate(1.0),
        lambda: Prefixes(0, 1),
        lambda: Prefixes(1, 0),
        lambda: OpenLoop(rate=1.0, duration=1.0, cv=0.0),
        lambda: OpenLoop(rate=1e6, duration=1e6),
    ):
        with pytest.raises(InputError):
            make()
    assert OpenLoop(rate=1.0, duration=1.0).profile == FLAT
