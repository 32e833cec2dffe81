"""The sampler against a plain implementation in the words of the papers, and against chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from overclock.clock import sampling
from overclock.clock.sampling import Sampler, Sampling, uniform
from overclock.errors import InputError, MachineError

Logits = NDArray[np.float32]
logit_rows = hnp.arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.integers(-40, 40).map(lambda n: np.float32(n / 4)),
)


def plain_probabilities(
    logits: Logits, rules: Sampling, seen: Sequence[int] = ()
) -> dict[int, float]:
    """Probabilities by sorting everything; tokens tied with the last one admitted are admitted."""
    scores = [float(x) for x in logits]
    for token in set(seen):
        penalty = float(np.float32(rules.repetition_penalty))
        x = np.float32(scores[token])
        scores[token] = float(x / np.float32(penalty) if x > 0 else x * np.float32(penalty))
    best = max(scores)
    weights = [math.exp((x - best) / rules.temperature) for x in scores]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    if rules.top_k is not None and rules.top_k < len(order):
        order = [i for i in order if scores[i] >= scores[order[rules.top_k - 1]]]
    if rules.top_p is not None:
        total = math.fsum(weights[i] for i in order)
        reached, last = 0.0, order[-1]
        for i in order:
            reached += weights[i]
            if reached >= rules.top_p * total:
                last = i
                break
        order = [i for i in order if weights[i] >= weights[last]]
    if rules.min_p is not None:
        order = [i for i in order if weights[i] >= rules.min_p]
    total = math.fsum(weights[i] for i in order)
    return {i: weights[i] / total for i in order}


def plain_choice(
    logits: Logits, rules: Sampling, number: float, seen: Sequence[int] = ()
) -> tuple[int, float]:
    """Walk along the probabilities in order of ids until the number is used up."""
    probabilities = plain_probabilities(logits, rules, seen)
    reached = 0.0
    for token in sorted(probabilities):
        reached += probabilities[token]
        if number < reached:
            return token, reached - number
    return max(probabilities), 0.0


@given(logits=logit_rows, penalty=st.sampled_from([1.0, 1.3]))
def test_greedy_takes_the_first_of_the_likeliest(logits: Logits, penalty: float) -> None:
    sampler = Sampler(Sampling(temperature=0.0, repetition_penalty=penalty), logits.size, [0])
    seen = [0]
    for _ in range(3):
        scores = logits.copy()
        for token in set(seen):
            x = scores[token]
            scores[token] = x / np.float32(penalty) if x > 0 else x * np.float32(penalty)
        expected = next(i for i, x in enumerate(scores) if x == max(scores))
        assert sampler.choose(logits) == expected
        seen.append(expected)


@given(
    logits=logit_rows,
    temperature=st.sampled_from([0.25, 0.7, 1.0, 3.0]),
    top_k=st.none() | st.integers(1, 50),
    top_p=st.none() | st.sampled_from([0.05, 0.33, 0.5, 0.77, 0.9, 0.99, 1.0]),
    min_p=st.none() | st.sampled_from([0.013, 0.1, 0.53]),
    penalty=st.sampled_from([1.0, 1.1, 0.8]),
    seed=st.integers(0, 2**64),
)
@settings(max_examples=400)
def test_choices_are_those_of_the_plain_implementation(
    logits: Logits,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    penalty: float,
    seed: int,
) -> None:
    rules = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=penalty,
        seed=seed,
    )
    prompt = [logits.size - 1]
    sampler = Sampler(rules, logits.size, prompt)
    seen = list(prompt)
    for count in range(3):
        before = logits.copy()
        number = uniform(seed, count)
        token = sampler.choose(logits)
        expected, margin = plain_choice(logits, rules, number, seen)
        assert np.array_equal(before, logits)
        probabilities = plain_probabilities(logits, rules, seen)
        if top_p is None:
            assert token in probabilities
        # Within rounding of a border either neighbour is right.
        near = margin < 1e-9 or margin > probabilities[expected] - 1e-9
        assert token == expected or near or _top_p_is_on_a_border(logits, rules, seen)
        seen.append(token)


def _top_p_is_on_a_border(logits: Logits, rules: Sampling, seen: Sequence[int]) -> bool:
    if rules.top_p is None:
        return False
    sums = []
    for shift in (-1e-9, 1e-9):
        moved = Sampling(
            temperature=rules.temperature,
            top_k=rules.top_k,
            top_p=min(1.0, rules.top_p + shift),
            min_p=rules.min_p,
            repetition_penalty=rules.repetition_penalty,
        )
        sums.append(set(plain_probabilities(logits, moved, seen)))
    return sums[0] != sums[1]


@pytest.mark.parametrize(
    "rules",
    [
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 1.0, "top_k": 3},
        {"temperature": 1.0, "top_p": 0.7},
        {"temperature": 2.0, "min_p": 0.4},
        {"temperature": 1.5, "top_k": 5, "top_p": 0.9, "min_p": 0.1},
    ],
)
def test_frequencies_are_the_probabilities(rules: Any) -> None:
    logits = np.array([0.3, -1.0, 1.2, 0.9, -3.0, 0.31, 1.0], np.float32)
    settings = Sampling(seed=7, **rules)
    sampler = Sampler(settings, logits.size, [])
    draws = 20_000
    counts = np.bincount([sampler.choose(logits) for _ in range(draws)], minlength=logits.size)
    expected = plain_probabilities(logits, settings)
    for token, count in enumerate(counts):
        p = expected.get(token, 0.0)
        assert abs(count - draws * p) <= 5 * math.sqrt(draws * p * (1 - p)) + 1e-9


def test_the_same_seed_gives_the_same_tokens_and_others_do_not() -> None:
    logits = np.zeros(1000, np.float32)

    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed), 1000, [])
        return [sampler.choose(logits) for _ in range(20)]

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(None) != draw(None)


def test_numbers_are_spread_evenly_and_neighbours_are_not_alike() -> None:
    grid = np.array([[uniform(seed, count) for count in range(100)] for seed in range(100)])
    assert grid.min() >= 0.0
    assert grid.max() < 1.0
    counts, _ = np.histogram(grid, bins=20, range=(0, 1))
    assert np.all(np.abs(counts - 500) < 5 * math.sqrt(500))
    for one, other in (
        (grid[:, 1:], grid[:, :-1]),
        (grid[1:], grid[:-1]),
        (grid[1:, :-1], grid[:-1, 1:]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_splitmix64_is_the_published_one() -> None:
    # The first outputs of the authors' C code for the state 1234567.
    from overclock.clock.sampling import _GOLDEN, _MASK, _mix

    found = [_mix((1234567 + n * _GOLDEN) & _MASK) for n in range(3)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_large_vocabularies_are_drawn_from_evenly() -> None:
    logits = np.zeros(1000, np.float32)
    logits[300:] = -np.inf
    sampler = Sampler(Sampling(temperature=1.0, seed=3), 1000, [])
    counts = np.bincount([sampler.choose(logits) for _ in range(30_000)], minlength=1000)
    assert counts[300:].sum() == 0
    assert np.all(np.abs(counts[:300] - 100) < 6 * math.sqrt(100))


@given(numbers=st.lists(st.integers(0, 9), min_size=1, max_size=600), part=st.floats(0, 1))
def test_a_place_is_found_in_the_running_sum(numbers: list[int], part: float) -> None:
    weights = np.array(numbers, np.float64)
    if weights.sum() == 0 or part == 1.0:
        return
    place = sampling._pick(weights, part)
    goal = part * weights.sum()
    assert weights[place] > 0
    assert weights[:place].sum() <= goal + 1e-9
    assert weights[: place + 1].sum() >= goal - 1e-9


def test_extreme_logits_do_no_harm() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 3e38, -3e38], np.float32)
    assert Sampler(Sampling(temperature=1e-300, seed=1), 5, []).choose(logits) == 3
    everything = np.full(4, -np.inf, np.float32)
    assert Sampler(Sampling(temperature=1.0, seed=1), 4, []).choose(everything) == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_told(temperature: float) -> None:
    logits = np.array([0.0, np.nan, 1.0], np.float32)
    with pytest.raises(MachineError, match="not numbers"):
        Sampler(Sampling(temperature=temperature), 3, []).choose(logits)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "warm"),
        ("temperature", None),
        ("temperature", True),
        ("top_k", 0),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_k", True),
        ("top_p", 0),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("min_p", math.nan),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.0),
        ("repetition_penalty", math.nan),
        ("seed", -1),
        ("seed", 0.5),
    ],
)
def test_impossible_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        Sampling(**{name: value})  # type: ignore[arg-type]
