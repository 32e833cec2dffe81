"""Many requests on the real model: company, cache, splits, threads and guesses change no token."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from overclock import LLM, Completion
from overclock.clock.grammar import json_schema
from overclock.clock.settings import ClockSettings
from overclock.prompts import Prompt
from tests.real.models import real

pytestmark = pytest.mark.real

QUESTIONS = [
    "What is the capital of France?",
    "Write three lines about the sea.",
    "Repeat after me: one two three one two three one two three one two three one two three",
    "List the days of the week, and then list them again.",
    "Why is the sky blue? " + "Explain it simply. " * 60,
    "Translate to French: good morning",
]
PROMPTS: list[Prompt] = [[{"role": "user", "content": question}] for question in QUESTIONS]
TOKENS = 40


def answers(llm: LLM, **options: object) -> list[Completion]:
    return llm.generate(PROMPTS, TOKENS, logprobs=2, **options)  # type: ignore[call-overload, no-any-return]


def compared(completions: list[Completion]) -> list[object]:
    return [(each.token_ids, each.logprobs, each.text) for each in completions]


@pytest.fixture(scope="module")
def alone() -> Iterator[list[object]]:
    with LLM(real("smollm2"), 1) as llm:
        yield compared(
            [
                llm.generate(prompt, TOKENS, logprobs=2, reuse_prefix=False, speculation="off")
                for prompt in PROMPTS
            ]
        )


@pytest.mark.parametrize("threads", [1, 2])
def test_company_changes_nothing(alone: list[object], threads: int) -> None:
    with LLM(real("smollm2"), threads) as llm:
        assert compared(answers(llm)) == alone
        assert compared(answers(llm)) == alone  # now from the prefix cache
        llm.clock.check_integrity()


def test_splits_and_few_pages_change_nothing(alone: list[object]) -> None:
    settings = ClockSettings(tick_tokens=23, streams=4)
    with LLM(real("smollm2"), 2, context=640, kv_memory=21 << 20, settings=settings) as llm:
        assert compared(answers(llm)) == alone
        llm.clock.check_integrity()


def test_guesses_come_true_and_change_nothing(alone: list[object]) -> None:
    with LLM(real("smollm2"), 2) as llm:
        found = [llm.generate(prompt, TOKENS, logprobs=2) for prompt in PROMPTS]
    assert compared(found) == alone


def test_an_answer_keeps_to_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    with LLM(real("smollm2"), 2) as llm:
        found = llm.generate(PROMPTS[0], 80, grammar=json_schema(schema))
        plain = llm.generate(PROMPTS[0], 80, grammar=json_schema(schema), speculation="off")
    assert found.finish_reason == "stop"
    assert set(json.loads(found.text)) == {"name", "age"}
    assert found.token_ids == plain.token_ids
