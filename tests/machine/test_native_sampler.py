"""Many requests at once choose what each would choose alone, and bad ones fail alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.clock.sampling import Sampling, sampler
from overclock.errors import MachineError
from overclock.machine import native
from overclock.machine.native import NativeMachine, Sampler

V = 700
RULES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3, "frequency_penalty": 1.0, "logprobs": 2},
    {"temperature": 0.8, "seed": 1},
    {"temperature": 0.8, "top_p": 0.9, "seed": 2},
    {"temperature": 1.5, "typical_p": 0.7, "seed": 3, "logprobs": 0},
    {"temperature": 0.5, "top_k": 5, "dry_multiplier": 1.0, "dry_allowed_length": 1, "seed": 4},
    {"temperature": 1.0, "min_p": 0.1, "presence_penalty": 2.0, "min_tokens": 2, "seed": 5},
]
THREADS = [None, 1, 2, 5]


def machine_with(threads: int | None) -> NativeMachine | None:
    return None if threads is None else NativeMachine(threads)


def make(rules: dict[str, Any]) -> Sampler:
    return sampler(Sampling(**rules), V, [1, 2, 3, 1, 2], banned=[0])


def rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(count, V)) * 3).astype(np.float32)


def ints(values: list[int]) -> NDArray[np.int32]:
    return np.array(values, np.int32)


@pytest.mark.parametrize("threads", THREADS)
def test_every_sampler_chooses_what_it_would_alone(threads: int | None) -> None:
    machine = machine_with(threads)
    logits = rows(len(RULES) * 3)
    alone = [make(rules) for rules in RULES]
    together = [make(rules) for rules in RULES]
    for step in range(3):
        part = logits[step * len(RULES) : (step + 1) * len(RULES)]
        wanted = [[one.choose_one(row.copy())] for one, row in zip(alone, part)]
        order = [int(i) for i in np.random.default_rng(step).permutation(len(RULES))]
        found, errors = native.choose(
            [together[i] for i in order], part.copy(), ints(order), [[]] * len(order), machine
        )
        assert found == [wanted[i] for i in order]
        assert errors == [None] * len(order)
    assert [one.take_logprobs() for one in together] == [one.take_logprobs() for one in alone]


@given(
    right=st.lists(st.integers(0, 4), min_size=len(RULES), max_size=len(RULES)),
    extra=st.integers(0, 2),
    seed=st.integers(0, 100),
    threads=st.sampled_from(THREADS),
)
@settings(max_examples=60, deadline=None)
def test_drafts_are_taken_as_far_as_they_are_right(
    right: list[int], extra: int, seed: int, threads: int | None
) -> None:
    machine = machine_with(threads)
    alone = [make(rules) for rules in RULES]
    parts = [rows(count + extra + 1, seed + i) for i, count in enumerate(right)]
    wanted = [
        [one.choose_one(row.copy()) for row in part[: count + 1]]
        for one, part, count in zip(alone, parts, right)
    ]
    drafts = [
        tokens[:count] + [(tokens[-1] + 1) % V] * extra for tokens, count in zip(wanted, right)
    ]
    firsts = np.cumsum([0] + [len(part) for part in parts[:-1]]).tolist()
    together = [make(rules) for rules in RULES]
    found, errors = native.choose(together, np.concatenate(parts), ints(firsts), drafts, machine)
    assert errors == [None] * len(RULES)
    assert found == wanted
    assert [one.count for one in together] == [count + 1 for count in right]
    assert [one.take_logprobs() for one in together] == [one.take_logprobs() for one in alone]


@pytest.mark.parametrize("threads", THREADS)
def test_bad_logits_fail_alone(threads: int | None) -> None:
    machine = machine_with(threads)
    logits = rows(6)
    logits[1, 5] = np.nan
    logits[3] = -np.inf
    samplers = [make({}) for _ in range(4)]
    draft = int(logits[4].argmax())
    good = logits.copy()
    good[5, V - 1] = np.nan  # after a draft that was right
    found, errors = native.choose(
        samplers, good, ints([0, 1, 3, 4]), [[], [], [], [draft]], machine
    )
    assert found == [[int(logits[0].argmax())], [], [], [draft]]
    assert errors[0] is None
    assert "not finite" in str(errors[1])
    assert "no token can come next" in str(errors[2])
    assert "not finite" in str(errors[3])
    assert [one.count for one in samplers] == [1, 0, 0, 1]
    found, errors = native.choose(samplers[1:2], rows(1), ints([0]), [[]], machine)
    assert errors == [None]


def test_what_does_not_fit_is_refused_before_anything_is_chosen() -> None:
    one, two = make({}), make({})
    logits = rows(3)
    other = sampler(Sampling(), V + 1, [])
    calls: list[tuple[list[Sampler], Any, Any, list[list[int]], str]] = [
        ([one, two], logits, ints([0, 0]), [[], []], "same row"),
        ([one, two], logits, ints([0, 1]), [[5], []], "same row"),
        ([one, one], logits, ints([0, 1]), [[], []], "one turn"),
        ([one], logits, ints([3]), [[]], "outside"),
        ([one], logits, ints([-1]), [[]], "outside"),
        ([one], logits, ints([1]), [[4, 4]], "outside"),
        ([one], logits, ints([0, 1]), [[]], "one entry"),
        ([one], logits, ints([0]), [], "one entry"),
        ([one, other], logits, ints([0, 1]), [[], []], "another vocabulary"),
        ([one], logits.astype(np.float64), ints([0]), [[]], "no tokens"),
        ([one], np.asfortranarray(logits), ints([0]), [[]], "no tokens"),
        ([one], logits, np.array([0]), [[]], "no tokens"),
        ([one, None], logits, ints([0, 1]), [[], []], "no tokens"),  # type: ignore[list-item]
    ]
    for samplers, given_logits, firsts, drafts, words in calls:
        with pytest.raises(MachineError, match=words):
            native.choose(samplers, given_logits, firsts, drafts)
    assert (one.count, two.count) == (0, 0)
    assert native.choose([], logits, ints([]), []) == ([], [])


def test_a_row_or_mask_of_another_shape_is_refused() -> None:
    one = make({})
    mask = np.full((V + 31) // 32, 0xFFFFFFFF, np.uint32)
    for row, given_mask in (
        (rows(1)[0][:-1], None),
        (rows(1), None),
        (rows(1)[0].astype(np.float16), None),
        (rows(1)[0], mask[:-1]),
        (rows(1)[0], mask.astype(np.int64)),
    ):
        with pytest.raises(MachineError, match="no token"):
            one.choose_one(row, given_mask)  # type: ignore[arg-type]
    assert one.choose_one(rows(1)[0], mask) == int(rows(1)[0].argmax())


def test_logprobs_of_a_prompt() -> None:
    logits = rows(4)
    logits[0, :3] = -np.inf
    targets = ints([0, 5, V - 1, 7])
    found = native.logprobs(logits, targets, 3)
    for row, target, (logprob, top) in zip(logits.astype(np.float64), targets, found):
        expected = row - row.max()
        expected -= math.log(np.exp(expected).sum())
        assert logprob == pytest.approx(expected[target], abs=1e-5)
        assert [token for token, _ in top] == np.argsort(-expected, kind="stable")[:3].tolist()
        assert [p for _, p in top] == pytest.approx(np.sort(expected)[::-1][:3].tolist(), abs=1e-5)
    assert native.logprobs(logits, targets) == [(logprob, []) for logprob, _ in found]
    for bad in ([0, 0, 0, V], [0, 0, 0, -1], [0]):
        with pytest.raises(MachineError, match="logprobs cannot"):
            native.logprobs(logits, ints(bad))
    logits[2, 2] = np.nan
    with pytest.raises(MachineError, match="not finite"):
        native.logprobs(logits, targets)


def test_tokens_outside_of_the_vocabulary_are_refused() -> None:
    for prompt, banned in (([V], []), ([-1], []), ([], [V])):
        with pytest.raises(ValueError, match="not in the vocabulary"):
            sampler(Sampling(), V, prompt, banned)
