"""OpenAI's answer objects, as far as there is something to say in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NotRequired, TypedDict
from uuid import uuid4

from overclock.clock import completion
from overclock.clock.completion import Completion

Finish = Literal["stop", "length", "tool_calls", "content_filter"]

_FINISH: dict[completion.FinishReason, Finish] = {
    "stop": "stop",
    "length": "length",
    "deadline": "length",  # the API knows no nearer word for an answer that was cut short
    "cancelled": "length",
}


class TopLogprob(TypedDict):
    """A token, its logprob, and its bytes, as one token may be a part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(TopLogprob):
    """A token of the answer and what else might have been there."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """The logprobs of a chat's answer."""

    content: list[ChatLogprob]
    refusal: None


class TextLogprobs(TypedDict):
    """The logprobs of a continued text, in columns; the first token of a text has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class FunctionCall(TypedDict):
    """arguments: a JSON object, as text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call of a function that the model wants made."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AnswerMessage(TypedDict):
    """The model's turn."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[ToolCall]]


class ChatChoice(TypedDict):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class TextChoice(TypedDict):
    """One continuation."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish


class PromptDetails(TypedDict):
    """cached_tokens: those of the prompt that had been computed for another request."""

    cached_tokens: int


class Usage(TypedDict):
    """Tokens of the prompts, each counted once, and of all answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class ChatCompletion(TypedDict):
    """The answer of `/v1/chat/completions`. created: seconds since 1970."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: None


class TextCompletion(TypedDict):
    """The answer of `/v1/completions`. created: seconds since 1970."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    system_fingerprint: None


def new_id(prefix: str) -> str:
    """An identifier that nothing else has."""
    return f"{prefix}{uuid4().hex}"


def finish(answer: Completion) -> Finish:
    """Why an answer ended, in OpenAI's words; one that failed has no such word."""
    return _FINISH[answer.finish_reason]


def usage(prompts: Iterable[Sequence[Completion]]) -> Usage:
    """What the answers to each of the prompts took; the first answer computes the prompt."""
    groups = [[answer.usage for answer in answers] for answers in prompts]
    read = sum(group[0].prompt_tokens for group in groups)
    written = sum(each.completion_tokens for group in groups for each in group)
    cached = sum(min(each.cached_tokens for each in group) for group in groups)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
