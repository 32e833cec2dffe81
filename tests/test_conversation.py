"""Conversations: what is remembered, what is run again, what is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from overclock import LLM
from overclock.conversation import Conversation
from overclock.errors import InputError
from tests.checkpoints import FIXTURES


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(FIXTURES / "llama", machine="reference") as opened:
        yield opened


def answer(conversation: Conversation, text: str, **options: Any) -> str:
    return "".join(piece.text for piece in conversation.say(text, 4, **options))


def test_turns_are_remembered(llm: LLM) -> None:
    conversation = Conversation(llm, "be kind")
    first = answer(conversation, "hi")
    second = answer(conversation, "ho")
    assert conversation.messages == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "ho"},
        {"role": "assistant", "content": second},
    ]
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "be kind"}]


def test_answers_are_those_of_generate_and_the_prefix_is_not_run_again(llm: LLM) -> None:
    conversation = Conversation(llm)
    answer(conversation, "hi")
    before = llm.encode([{"role": "user", "content": "hi"}])
    second = answer(conversation, "ho")
    assert conversation.last is not None
    assert conversation.last.usage.cached_tokens >= len(before) - 1
    assert llm.generate(conversation.messages[:-1], 4).text == second


def test_old_turns_are_dropped_and_the_system_message_stays(llm: LLM) -> None:
    conversation = Conversation(llm, "sys")
    for number in range(12):
        answer(conversation, f"number {number}")
        assert len(llm.encode(conversation.messages[:-1])) + 4 <= llm.context
    assert conversation.dropped > 0
    assert conversation.messages[0]["role"] == "system"
    assert conversation.messages[1]["role"] == "user"
    assert conversation.messages[-2]["content"] == "number 11"


def test_a_text_that_is_too_long_changes_nothing(llm: LLM) -> None:
    conversation = Conversation(llm)
    answer(conversation, "hi")
    before = conversation.messages
    with pytest.raises(InputError, match="shorten"):
        conversation.say("long " * 200, 4)
    assert conversation.messages == before
    assert conversation.dropped == 0


def test_an_answer_that_is_left_stays_as_far_as_it_came(llm: LLM) -> None:
    conversation = Conversation(llm)
    pieces = conversation.say("hi", 30, ignore_eos=True)
    shown = next(pieces).text + next(pieces).text
    pieces.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": shown}
    assert answer(conversation, "go on") is not None


def test_a_model_without_template_cannot_chat() -> None:
    with (
        LLM(FIXTURES / "gemma3", machine="reference") as plain,
        pytest.raises(InputError, match="chat template"),
    ):
        Conversation(plain)
