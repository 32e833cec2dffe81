"""What a clock learns of its ticks: a made-up computer tells how long they take."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.clock.pace import ANCHORS, LEAST_TOKENS, Pace

rows = st.integers(1, 5000)
seconds = st.floats(1e-6, 10.0)


def learnt(base: float, row: float, token: float, most: int = 64, times: int = 40) -> Pace:
    """The pace of a computer whose ticks take `base`, and so much for each row or prompt token."""
    pace = Pace()
    for _ in range(times):
        for count in range(1, most + 1):
            pace.observe(count, 0, base + row * count)
        pace.observe(1, 100, base + row + 100 * token)
    return pace


def test_nothing_is_known_at_first() -> None:
    pace = Pace()
    assert pace.seconds(4) is None
    assert pace.row_cost(4, 2) == 0.0
    assert pace.prompt_tokens(4, 2.0, 512) == 0  # a tick to learn from comes first


@given(count=rows, took=seconds)
def test_one_tick_is_remembered_as_it_was(count: int, took: float) -> None:
    pace = Pace()
    pace.observe(count, 0, took)
    anchor = min(ANCHORS, key=lambda each: abs(each - count))
    assert pace.seconds(anchor) == pytest.approx(took)


@given(base=st.floats(1e-3, 0.1), row=st.floats(1e-5, 1e-2), count=st.integers(1, 64), more=rows)
def test_a_steady_computer_is_known(base: float, row: float, count: int, more: int) -> None:
    pace = learnt(base, row, 0.0)
    assert pace.seconds(count) == pytest.approx(base + row * count, rel=0.05)
    if count + more <= 64:
        assert pace.row_cost(count, more) == pytest.approx(row, rel=0.3, abs=0.05 * base)


@given(
    ticks=st.lists(
        st.tuples(rows, st.sampled_from([0, 0, 1, 8, 500]), st.floats(0.0, 10.0)), max_size=30
    ),
    count=rows,
    more=st.integers(1, 64),
    stretch=st.floats(1.01, 10.0),
    most=st.integers(1, 4096),
)
def test_whatever_was_seen_the_answers_are_possible(
    ticks: list[tuple[int, int, float]], count: int, more: int, stretch: float, most: int
) -> None:
    pace = Pace()
    for each in ticks:
        pace.observe(*each)
    expected = pace.seconds(count)
    assert expected is None or 0 < expected < inf
    assert 0 <= pace.row_cost(count, more) < inf
    room = pace.prompt_tokens(count, stretch, most)
    assert expected is None or min(most, LEAST_TOKENS) <= room <= most
    assert pace.prompt_tokens(count, stretch + 1.0, most) >= room


@given(token=st.floats(1e-5, 1e-3), stretch=st.floats(1.1, 5.0))
def test_a_prompt_gets_what_the_stretch_pays_for(token: float, stretch: float) -> None:
    pace = learnt(0.05, 0.001, token)
    least = 0.05 * (0.051 + 100 * token) / 100  # a token is never taken to cost less
    wanted = int((stretch - 1.0) * 0.051 / max(token, least))
    room = pace.prompt_tokens(1, stretch, 10_000)
    assert room == pytest.approx(max(LEAST_TOKENS, wanted), rel=0.05, abs=1)


def test_a_leap_of_time_is_forgotten() -> None:
    pace = learnt(0.05, 0.001, 1e-3)
    before = pace.prompt_tokens(1, 2.0, 512)
    pace.observe(1, 100, 36_000.0)
    pace.observe(1, 0, 36_000.0)
    for _ in range(150):
        pace.observe(1, 0, 0.051)
        pace.observe(1, 50, 0.101)
    assert pace.prompt_tokens(1, 2.0, 512) == pytest.approx(before, rel=0.1)


def test_time_that_stands_still_teaches_nothing() -> None:
    pace = Pace()
    pace.observe(3, 0, 0.0)
    pace.observe(3, 40, 0.0)
    assert pace.seconds(3) is None
