"""The sampler against a plain implementation in the words of the papers, and against chance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from overclock.clock.sampling import Sampling, sampler
from overclock.errors import InputError, MachineError
from tests.clock import reference_sampler as reference
from tests.clock.reference_sampler import Logits

logit_rows = hnp.arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.integers(-40, 40).map(lambda n: np.float32(-np.inf if n == -40 else n / 4)),
).filter(lambda row: bool(row.max() > -np.inf))
shares = st.none() | st.sampled_from([0.05, 0.33, 0.5, 0.77, 0.9, 0.99, 1.0])
rule_sets = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 1e-300, 0.25, 0.7, 1.0, 3.0, 1e5]),
        "top_k": st.none() | st.integers(1, 50),
        "top_p": shares,
        "typical_p": shares,
        "min_p": st.none() | st.sampled_from([0.013, 0.1, 0.53, 1.0]),
        "repetition_penalty": st.sampled_from([1.0, 1.1, 0.8]),
        "presence_penalty": st.sampled_from([0.0, 0.6, -2.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.25, -0.5]),
        "dry_multiplier": st.sampled_from([0.0, 0.8]),
        "dry_allowed_length": st.integers(1, 3),
        "dry_range": st.none() | st.integers(1, 8),
        "dry_breakers": st.lists(st.integers(0, 4), max_size=1),
        "min_tokens": st.integers(0, 2),
        "seed": st.integers(0, 2**64),
    }
)


def acceptable(scores: Logits, rules: Sampling, number: float) -> set[int]:
    """The plain choice; on the border of a rule, all that are right within rounding."""
    found = set()
    values = np.unique(scores)
    for sign in (0, 1, -1):
        for turn in (1, 2, 3):
            # Equal logits stay equal; others move a little, each in its own way.
            moves = sign * 3e-6 * np.cos(turn * np.arange(len(values)))
            with np.errstate(invalid="ignore"):
                moved = scores + moves[np.searchsorted(values, scores)] * rules.temperature
            near = dataclasses.replace(
                rules,
                top_p=rules.top_p and min(1.0, rules.top_p + sign * 1e-6),
                typical_p=rules.typical_p and min(1.0, rules.typical_p + sign * 1e-6),
            )
            found |= _choices(moved.astype(np.float64), near, number)
    return found


def _choices(scores: Any, rules: Sampling, number: float) -> set[int]:
    chances = reference.probabilities(scores, rules)
    return {
        reference.choice(chances, min(max(number + shift, 0.0), 1.0 - 1e-16))[0]
        for shift in (0.0, -2e-6, 2e-6)
    }


def check(
    logits: Logits, rules: Sampling, prompt: Sequence[int], banned: Collection[int], tokens: int
) -> int:
    """Choose tokens and compare each with the plain one; how many had only one right answer."""
    chooser = sampler(rules, logits.size, prompt, banned)
    answer: list[int] = []
    sure = 0
    assert rules.seed is not None
    for count in range(tokens):
        scores = reference.edited(logits, rules, prompt, answer, banned)
        if scores.max() == -np.inf:
            with pytest.raises(MachineError, match="no token can come"):
                chooser.choose_one(logits.copy())
            return sure
        token = chooser.choose_one(logits.copy())
        if rules.temperature == 0:
            assert token == int(scores.argmax())
        else:
            right = acceptable(scores, rules, reference.uniform(rules.seed, count))
            assert token in right
            sure += len(right) == 1
        answer.append(token)
    assert chooser.count == tokens
    return sure


@given(logits=logit_rows, rules=rule_sets, data=st.data())
@settings(max_examples=400, deadline=None)
def test_choices_are_those_of_the_plain_implementation(
    logits: Logits, rules: Any, data: st.DataObject
) -> None:
    ids = st.integers(0, logits.size - 1)
    bias = data.draw(st.dictionaries(ids, st.sampled_from([-5.0, 0.5, 3.0]), max_size=3))
    prompt = data.draw(st.lists(ids, max_size=12))
    banned = data.draw(st.lists(ids, max_size=2))
    check(logits, Sampling(logit_bias=bias, **rules), prompt, banned, 4)


@pytest.mark.parametrize("width", [0.2, 1.0, 4.0])
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"top_k": 10},
        {"top_k": 500},
        {"top_p": 0.3},
        {"top_p": 0.95},
        {"typical_p": 0.5},
        {"typical_p": 0.95, "min_p": 0.2},
        {"top_k": 300, "typical_p": 0.9, "top_p": 0.9, "min_p": 0.01},
        {"min_p": 0.05},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "top_p": 0.9},
    ],
)
def test_large_vocabularies_are_chosen_from_as_plainly(rules: Any, width: float) -> None:
    random = np.random.default_rng(5)
    sure = 0
    for size in (1000, 1281, 3001):
        logits = (random.normal(size=size) * width).astype(np.float32)
        prompt = random.integers(0, size, 200).tolist()
        made = Sampling(temperature=0.8, seed=int(random.integers(2**60)), **rules)
        sure += check(logits, made, prompt, (), 3)
    assert sure >= 5  # few choices lie on a border


@pytest.mark.parametrize("distinct", [1, 2, 5])
@pytest.mark.parametrize("rules", [{"top_p": 0.4}, {"typical_p": 0.4}, {"top_k": 700}])
def test_thousands_of_ties_are_admitted_together(rules: Any, distinct: int) -> None:
    values = np.linspace(0, -1.3, distinct).astype(np.float32)
    logits = np.resize(values, 3000)
    check(logits, Sampling(temperature=1.0, seed=distinct, **rules), [], (), 5)


def test_a_rank_is_found_where_a_part_of_the_tokens_misleads() -> None:
    # Every sixteenth token is far ahead of the others, which are needed to fill the rank.
    logits = np.linspace(-1, 0, 3200).astype(np.float32)
    logits[::16] += 2
    check(logits, Sampling(temperature=5.0, top_k=100, seed=1), [], (), 20)
    check(logits, Sampling(temperature=5.0, top_k=1000, seed=1), [], (), 20)


def test_scores_that_are_neighbouring_floats_are_told_apart() -> None:
    # More of them than are ever sorted at once, and a nucleus that ends among them.
    step = np.repeat(np.arange(8), 300)
    close = np.append(-4 + step * 2.0**-22, 0.0).astype(np.float32)
    assert len(np.unique(close)) == 9
    chooser = sampler(Sampling(temperature=1.0, top_p=0.5, seed=1), close.size, [])
    chosen = {chooser.choose_one(close.copy()) for _ in range(400)} - {len(step)}
    # Half of the weight is in the upper four values and in what the likeliest one has.
    assert {int(step[token]) for token in chosen} == {4, 5, 6, 7}


CHANCES: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.5},
    {"temperature": 1.0, "top_k": 3},
    {"temperature": 1.0, "top_p": 0.7},
    {"temperature": 2.0, "min_p": 0.4},
    {"temperature": 1.3, "typical_p": 0.6},
    {"temperature": 1.5, "top_k": 5, "top_p": 0.9, "min_p": 0.1},
    {"temperature": 1.0, "logit_bias": {0: 2.0, 2: -1.0}, "typical_p": 0.9, "top_p": 0.95},
]


@pytest.mark.parametrize("rules", CHANCES)
def test_frequencies_are_the_probabilities(rules: dict[str, Any]) -> None:
    logits = np.array([0.3, -1.0, 1.2, 0.9, -3.0, 0.31, 1.0], np.float32)
    made = Sampling(seed=7, **rules)
    chooser = sampler(made, logits.size, [])
    draws = 20_000
    counts = np.bincount(
        [chooser.choose_one(logits.copy()) for _ in range(draws)], minlength=logits.size
    )
    chances = reference.probabilities(reference.edited(logits, made, [], []), made)
    assert counts.sum() == sum(counts[token] for token in chances)
    if len(chances) > 1:
        expected = [draws * chances[token] for token in chances]
        observed = [counts[token] for token in chances]
        assert stats.chisquare(observed, expected).pvalue > 1e-6


def test_large_vocabularies_are_drawn_from_evenly() -> None:
    logits = np.zeros(1000, np.float32)
    logits[300:] = -np.inf
    chooser = sampler(Sampling(temperature=1.0, seed=3), 1000, [])
    counts = np.bincount([chooser.choose_one(logits.copy()) for _ in range(30_000)], minlength=1000)
    assert counts[300:].sum() == 0
    assert stats.chisquare(counts[:300]).pvalue > 1e-6


def test_the_same_seed_gives_the_same_tokens_and_others_do_not() -> None:
    def draw(seed: int | None) -> list[int]:
        chooser = sampler(Sampling(temperature=1.0, seed=seed), 1000, [])
        return [chooser.choose_one(np.zeros(1000, np.float32)) for _ in range(20)]

    assert draw(5) == draw(5) == draw(5 + (1 << 64))
    assert draw(5) != draw(6)
    assert draw(None) != draw(None)


def test_numbers_are_spread_evenly_and_neighbours_are_not_alike() -> None:
    grid = np.array(
        [[reference.uniform(seed, count) for count in range(100)] for seed in range(100)]
    )
    assert grid.min() >= 0.0
    assert grid.max() < 1.0
    counts, _ = np.histogram(grid, bins=20, range=(0, 1))
    assert stats.chisquare(counts).pvalue > 1e-6
    for one, other in (
        (grid[:, 1:], grid[:, :-1]),
        (grid[1:], grid[:-1]),
        (grid[1:, :-1], grid[:-1, 1:]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_splitmix64_is_the_published_one() -> None:
    # The first outputs of the authors' C code for the state 1234567.
    found = [reference.mix((1234567 + n * reference.GOLDEN) % (1 << 64)) for n in range(3)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_the_draw_is_the_counters_number_of_the_seed() -> None:
    chooser = sampler(Sampling(temperature=1.0, seed=99), 1 << 16, [])
    for count in range(50):
        number = reference.uniform(99, count)
        assert chooser.choose_one(np.zeros(1 << 16, np.float32)) == int(number * (1 << 16))


@given(
    pieces=st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=2, max_size=2),
    order=st.lists(st.integers(0, 1), max_size=6),
    allowed=st.integers(1, 4),
    last=st.none() | st.integers(1, 30),
    breakers=st.lists(st.integers(0, 3), max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_dry_takes_from_what_repeats(
    pieces: list[list[int]],
    order: list[int],
    allowed: int,
    last: int | None,
    breakers: list[int],
) -> None:
    tokens = [token for piece in order for token in pieces[piece]]
    rules = Sampling(
        dry_multiplier=0.5,
        dry_base=1.1,
        dry_allowed_length=allowed,
        dry_range=last,
        dry_breakers=breakers,
    )
    losses = reference.edited(np.zeros(4, np.float32), rules, tokens, [])
    # Which token a greedy choice takes tells whose loss is smaller than a bias.
    for token, loss in enumerate(losses):
        for margin, wanted in ((1e-3, token), (-1e-3, (token + 1) % 4)):
            biased = np.full(4, -1e9, np.float32)
            biased[token] = -loss + margin
            biased[(token + 1) % 4] = -losses[(token + 1) % 4]
            assert sampler(rules, 4, tokens).choose_one(biased) == wanted


def test_extreme_logits_do_no_harm() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 3e38, -3e38], np.float32)
    for rules in ({}, {"top_p": 0.9}, {"typical_p": 0.9}, {"top_k": 2}, {"min_p": 0.5}):
        made = Sampling(temperature=1e-300, seed=1, **rules)
        assert sampler(made, 5, []).choose_one(logits.copy()) == 3
    strong = Sampling(repetition_penalty=1e-300, logit_bias={1: 1e300, 2: -1e300})
    assert sampler(strong, 5, [3]).choose_one(logits.copy()) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("bad", "words"), [(np.nan, "not finite"), (np.inf, "not finite"), (-np.inf, "no token")]
)
def test_logits_that_no_token_follows_from_are_told(
    temperature: float, bad: float, words: str
) -> None:
    chooser = sampler(Sampling(temperature=temperature, seed=1), 300, [])
    logits = np.full(300, -np.inf, np.float32)
    logits[170] = bad
    with pytest.raises(MachineError, match=words):
        chooser.choose_one(logits)
    assert chooser.count == 0
    assert chooser.choose_one(np.array([0.0] + [-50.0] * 299, np.float32)) == 0


@given(data=st.data(), size=st.integers(1, 100), temperature=st.sampled_from([0.0, 1.0]))
@settings(deadline=None)
def test_only_what_the_mask_allows_can_come(
    data: st.DataObject, size: int, temperature: float
) -> None:
    allowed = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    bits = np.zeros((size + 31) // 32 * 32, np.uint8)
    bits[list(allowed)] = 1
    mask = np.packbits(bits, bitorder="little").view("<u4")
    logits = np.random.default_rng(size).normal(size=size).astype(np.float32)
    rules = Sampling(temperature=temperature, seed=size, logprobs=1)
    chooser = sampler(rules, size, [])
    token = chooser.choose_one(logits.copy(), mask)
    scores = reference.edited(logits, rules, [], [], allowed=allowed)
    if temperature == 0:
        assert token == int(scores.argmax())
    else:
        assert token in acceptable(scores, rules, reference.uniform(size, 0))
    ((logprob, top),) = chooser.take_logprobs()
    assert logprob == pytest.approx(reference.log_softmax(logits)[token], abs=1e-5)
    assert top[0][0] == int(logits.argmax())
    with pytest.raises(MachineError, match="no token"):
        chooser.choose_one(logits.copy(), np.zeros_like(mask))


@given(logits=logit_rows, top=st.integers(0, 20))
@settings(deadline=None)
def test_logprobs_are_those_of_the_model(logits: Logits, top: int) -> None:
    rules = Sampling(
        temperature=0.7,
        seed=3,
        logprobs=top,
        repetition_penalty=1.5,
        logit_bias={logits.size - 1: -2.0},
    )
    chooser = sampler(rules, logits.size, [0])
    chosen = [chooser.choose_one(logits.copy()) for _ in range(3)]
    expected = reference.log_softmax(logits)
    order = sorted(range(logits.size), key=lambda t: (-logits[t], t))[:top]
    noted = chooser.take_logprobs()
    assert len(noted) == 3
    assert chooser.take_logprobs() == []
    for token, (logprob, likeliest) in zip(chosen, noted):
        assert logprob == pytest.approx(expected[token], abs=1e-5)
        assert [id for id, _ in likeliest] == order
        assert [p for _, p in likeliest] == pytest.approx(list(expected[order]), abs=1e-5)


def test_no_logprobs_are_noted_unless_asked_for() -> None:
    chooser = sampler(Sampling(), 3, [])
    chooser.choose_one(np.zeros(3, np.float32))
    assert chooser.take_logprobs() == []


def test_an_answer_does_not_end_before_its_least_length() -> None:
    chooser = sampler(Sampling(min_tokens=2), 3, [], banned=[1])
    logits = np.array([0, 2, 1], np.float32)
    assert [chooser.choose_one(logits.copy()) for _ in range(4)] == [2, 2, 1, 1]


def test_settings_are_values() -> None:
    made = Sampling(logit_bias={7: 1, 3: -2.5}, dry_breakers=[5, 5, 1])
    assert made.logit_bias == ((3, -2.5), (7, 1.0))
    assert made.dry_breakers == (1, 5)
    assert dataclasses.replace(made, temperature=0.0) == made
    assert hash(made) == hash(dataclasses.replace(made))


def test_a_bias_must_be_for_a_token_of_the_vocabulary() -> None:
    with pytest.raises(InputError, match="logit_bias has token 10; the vocabulary has ids 0 to 9"):
        sampler(Sampling(logit_bias={10: 1.0}), 10, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", 10**400),
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
        ("typical_p", 0.0),
        ("typical_p", 1.1),
        ("typical_p", math.nan),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.0),
        ("repetition_penalty", math.nan),
        ("presence_penalty", 2.1),
        ("presence_penalty", math.nan),
        ("frequency_penalty", -2.1),
        ("frequency_penalty", math.inf),
        ("dry_multiplier", -1.0),
        ("dry_multiplier", math.nan),
        ("dry_base", 0.9),
        ("dry_base", math.inf),
        ("dry_allowed_length", 0),
        ("dry_allowed_length", None),
        ("dry_range", 0),
        ("dry_range", -1),
        ("dry_breakers", "\n"),
        ("dry_breakers", [-1]),
        ("dry_breakers", 3),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", {1: -math.inf}),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {"a": 1.0}),
        ("logit_bias", [1, 2]),
        ("logit_bias", "a"),
        ("min_tokens", -1),
        ("min_tokens", None),
        ("seed", -1),
        ("seed", 0.5),
        ("logprobs", -1),
        ("logprobs", 21),
        ("logprobs", True),
    ],
)
def test_impossible_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        Sampling(**{name: value})  # type: ignore[arg-type]
