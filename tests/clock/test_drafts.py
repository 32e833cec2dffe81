"""Guesses from text that repeats itself, against a search through the whole text."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from overclock.clock.drafts import NGRAM, PromptLookup

texts = st.lists(st.integers(0, 2), max_size=40)


def earlier(tokens: list[int]) -> int | None:
    """Behind where the last tokens occurred before, the latest such place."""
    last = tokens[-NGRAM:]
    places = range(len(tokens) - 1, NGRAM - 1, -1)
    return next((at for at in places if tokens[at - NGRAM : at] == last), None)


@given(prompt=texts, most=st.integers(0, 10))
def test_a_guess_is_what_followed_the_last_tokens_before(prompt: list[int], most: int) -> None:
    lookup = PromptLookup(prompt)
    at = earlier(prompt)
    assert lookup.has_guess == (at is not None)
    wanted = [] if at is None else list(islice(cycle(prompt[at:]), most))
    assert lookup.guess(most) == wanted


@given(prompt=texts, answer=texts)
def test_a_guess_that_comes_true_is_followed_and_another_one_sought_when_it_does_not(
    prompt: list[int], answer: list[int]
) -> None:
    lookup = PromptLookup(prompt)
    tokens = list(prompt)
    at, run = earlier(prompt), 0
    for token in answer:
        if at is not None and tokens[at] == token:
            at, run = at + 1, run + 1
            tokens.append(token)
        else:
            run = 0
            tokens.append(token)
            at = earlier(tokens)
        lookup.push(token)
        assert lookup.run == run
        assert lookup.guess(1) == ([] if at is None else [tokens[at]])


@given(period=st.integers(1, 12), size=st.integers(0, 20), most=st.integers(1, 30))
def test_a_text_that_goes_in_circles_is_guessed_to_go_on(period: int, size: int, most: int) -> None:
    circle = cycle(range(period))
    lookup = PromptLookup(list(islice(circle, period + NGRAM)))
    for token in islice(circle, size):
        lookup.push(token)
    assert lookup.run == size
    assert lookup.guess(most) == list(islice(circle, most))


@given(prompt=texts, answer=texts)
def test_a_rate_is_a_share(prompt: list[int], answer: list[int]) -> None:
    lookup = PromptLookup(prompt)
    for token in answer:
        lookup.push(token)
        rates = [lookup.rate(ahead) for ahead in range(20)]
        assert all(0 < rate < 1 for rate in rates)
        assert rates[8:] == [rates[8]] * 12  # runs of eight and more are one kind


def test_rates_learn_what_the_text_is_like_and_forget_it_again() -> None:
    chance = np.random.default_rng(5)
    lookup = PromptLookup([0, 1, 2, 3] * 3)
    first = lookup.rate(0)
    for token in [0, 1, 2, 3] * 100:
        lookup.push(token)
    steady = lookup.rate(0)
    assert steady > 0.95 > first
    for token in chance.integers(0, 3, 2000).tolist():
        lookup.push(token)
    assert abs(lookup.rate(0) - 1 / 3) < 0.2
    assert lookup.run < 10
