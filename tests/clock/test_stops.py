"""Stop strings, however the text is cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.clock.stops import StopWatch, check_stops
from overclock.errors import InputError

texts = st.text("ab.", max_size=30)
stops = st.lists(st.text("ab.", min_size=1, max_size=4), min_size=0, max_size=3)


@given(text=texts, stops=stops, cuts=st.lists(st.integers(0, 30), max_size=10))
def test_what_is_shown_ends_before_the_first_stop_however_it_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    borders = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    watch = StopWatch(stops)
    shown, pushed = "", ""
    for start, end in pairwise(borders):
        shown += watch.push(text[start:end])
        pushed += text[start:end]
        # Nothing that is shown can still become a part of a stop string.
        assert not any(stop in shown for stop in stops)
        if watch.hit:
            break
        held = pushed[len(shown) :]
        assert pushed.startswith(shown)
        assert not held or any(stop.startswith(held) for stop in stops)
    shown += watch.finish()
    if watch.hit:
        first = min(pushed.find(stop) for stop in stops if stop in pushed)
        assert shown == pushed[:first]
    else:
        assert shown == text
        assert not any(stop in text for stop in stops)


@pytest.mark.parametrize("stop", ["", [""], [1], ["a", None]])
def test_impossible_stops_are_refused(stop: Any) -> None:
    with pytest.raises(InputError, match="stop string"):
        check_stops(stop)


def test_one_stop_or_many_or_none() -> None:
    assert check_stops(None) == ()
    assert check_stops("a") == ("a",)
    assert check_stops(["a", "b"]) == ("a", "b")
