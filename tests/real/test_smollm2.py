"""SmolLM2 as its file has it: figures that another framework gave for the same weights."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock import LLM
from overclock.evaluate import Perplexity, perplexity
from overclock.program.program import KvFormat
from overclock.prompts import Message
from tests.real.models import real, text

pytestmark = pytest.mark.real

Array = NDArray[np.float64]
QUESTION: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]
# torch, with the weights dequantised to f32, gives these
ANSWER = [504, 3575, 282, 4649, 314, 7042, 30, 2]
WIKITEXT, WIKITEXT_TOP1 = 20.4941, 0.44300


@cache
def found(name: str, exact: bool) -> Perplexity:
    """The perplexity of a text's first 24 windows of 512 tokens."""
    words = text(name)
    with LLM(real("smollm2"), exact=exact) as llm:
        return perplexity(llm, words, window=512, windows=24)


def test_exact_mode_answers_as_torch_does() -> None:
    with LLM(real("smollm2"), exact=True) as llm:
        completion = llm.generate(QUESTION, 20)
    assert completion.token_ids == ANSWER
    assert completion.text == "The capital of France is Paris."
    assert completion.finish_reason == "stop"


@cache
def logits(exact: bool, kv: KvFormat) -> Array:
    """Log-probabilities of what may follow each token of the question, ``f64[T, V]``."""
    with LLM(real("smollm2"), exact=exact, kv=kv) as llm:
        ids = llm.encode(QUESTION)
        values = np.concatenate([block.astype(np.float64) for block in llm.score(ids)])
    values -= values.max(axis=1, keepdims=True)
    found: Array = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return found


def divergence(exact: bool, kv: KvFormat) -> float:
    """Mean Kullback-Leibler divergence from exact mode with an f32 cache, in nats a token."""
    wanted = logits(True, "f32")
    return float((np.exp(wanted) * (wanted - logits(exact, kv))).sum(axis=1).mean())


@pytest.mark.parametrize(
    ("exact", "kv", "most"),
    [(True, "f16", 1e-4), (True, "i8", 0.005), (False, "f32", 0.02), (False, "i8", 0.02)],
)
def test_rounding_stays_near(exact: bool, kv: KvFormat, most: float) -> None:
    assert 0 < divergence(exact, kv) < most


def test_exact_perplexity_is_that_of_torch() -> None:
    exact = found("wikitext2_valid.txt", exact=True)
    assert exact.tokens == 24 * 511
    assert exact.perplexity == pytest.approx(WIKITEXT, abs=0.005)
    assert exact.top1 == pytest.approx(WIKITEXT_TOP1, abs=5e-4)


def test_rounding_activations_costs_little_on_wikitext() -> None:
    default = found("wikitext2_valid.txt", exact=False)
    assert default.perplexity <= 20.56
    assert default.top1 == pytest.approx(WIKITEXT_TOP1, abs=5e-3)


def test_rounding_activations_costs_little_on_other_text() -> None:
    exact, default = (found("tinyshakespeare.txt", exact) for exact in (True, False))
    assert default.perplexity == pytest.approx(exact.perplexity, rel=0.003)
