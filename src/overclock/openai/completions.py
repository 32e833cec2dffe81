"""`/v1/completions`: what a body asks for."""

from __future__ import annotations

from dataclasses import dataclass

from overclock.clock.sampling import MOST_LOGPROBS
from overclock.openai import options
from overclock.openai.errors import ApiError
from overclock.openai.fields import Fields
from overclock.openai.options import Ask

MAX_TOKENS = 16
"""OpenAI's default."""

MOST_PROMPTS = 2048


@dataclass(frozen=True, slots=True)
class TextRequest:
    """Texts (or token ids) to be continued.

    echo: the prompt comes in front of each answer; answers: False if nothing but it is wanted
    """

    ask: Ask
    prompts: list[str] | list[list[int]]
    echo: bool
    answers: bool

    @property
    def total(self) -> int:
        """How many answers there will be."""
        return self.ask.count * len(self.prompts)


def parse_text(value: object) -> TextRequest:
    """The request of a body. Raises ApiError, which names the field, for what is wrong."""
    body = Fields(value)
    prompts = _prompts(body)
    echo = body.flag("echo")
    max_tokens = body.whole("max_tokens", 0 if echo else 1, options.MOST_TOKENS)
    logprobs = body.whole("logprobs", 0, MOST_LOGPROBS)
    ask = options.read(body, MAX_TOKENS if max_tokens is None else max_tokens or 1, logprobs)
    if echo and logprobs is not None:
        ask.options["prompt_logprobs"] = logprobs
    _check_best_of(body, ask.count)
    if body.text("suffix"):
        raise ApiError("suffix is not supported here; leave it out", param="suffix")
    body.done()
    return TextRequest(ask, prompts, echo, answers=max_tokens != 0)


def _prompts(body: Fields) -> list[str] | list[list[int]]:
    value = body.take("prompt")
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if _are_ids(value):
            return [value]
        if len(value) <= MOST_PROMPTS and (_are_texts(value) or all(map(_are_ids, value))):
            return value
    raise body.wrong(
        "prompt", value, f"text, token ids, or a list of up to {MOST_PROMPTS} of one of these"
    )


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


def _are_texts(values: list[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _check_best_of(body: Fields, count: int) -> None:
    best_of = body.whole("best_of", 1, options.MOST_TOKENS)
    if best_of not in (None, count):
        raise ApiError(
            "best_of is not supported here unless it is n; leave it out", param="best_of"
        )
