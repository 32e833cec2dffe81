"""A language model behind the API: bodies become its requests, completions the answers' bodies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import time

from overclock import prompts
from overclock.asking import Options
from overclock.clock.completion import Completion
from overclock.clock.grammar_tools import parse_tool_calls
from overclock.clock.request import Generate
from overclock.engine import LLM
from overclock.errors import InputError
from overclock.openai.chat import ChatRequest
from overclock.openai.completions import TextRequest
from overclock.openai.errors import ApiError, blaming
from overclock.openai.logprobs import Spelling, chat_logprobs, text_logprobs
from overclock.openai.objects import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    TextChoice,
    TextCompletion,
    ToolCall,
    finish,
    new_id,
    usage,
)
from overclock.openai.options import Ask


class Answers:
    """Turns what the API asks for into requests of one model, and their completions into answers.

    Who submits the requests, and waits, is the caller's business.
    """

    def __init__(self, llm: LLM, *, max_tokens: int | None = None) -> None:
        """`max_tokens` of chats that do not say; None for as many as the context holds."""
        self._model = llm.model
        self._asking = llm.asking
        self._context = llm.context
        self._max_tokens = max_tokens or llm.context
        self._spelling = Spelling(llm.model)

    def requests(self, request: ChatRequest | TextRequest) -> Iterator[Generate]:
        """The requests of a body, prompt after prompt, each with as many as there are choices.

        Raises ApiError for what cannot be asked of this model.
        """
        if isinstance(request, ChatRequest):
            yield from self._choices(self._chat_prompt(request), request.ask, self._held(request))
            return
        for prompt in request.prompts:
            with blaming("prompt"):
                ids = prompts.to_ids(self._model, prompt)
            yield from self._choices(ids, request.ask, {})

    def answer(
        self, request: ChatRequest | TextRequest, completions: Sequence[Completion]
    ) -> ChatCompletion | TextCompletion:
        """The body of the answer; the completions are those of `requests`, in order."""
        if isinstance(request, ChatRequest):
            return self._chat(request, completions)
        return self._text(request, completions)

    def _choices(self, ids: list[int], ask: Ask, more: Options) -> list[Generate]:
        if len(ids) > self._context:
            raise ApiError(
                f"the prompt has {len(ids)} tokens and the context holds {self._context}; "
                "shorten it",
                code="context_length_exceeded",
            )
        options: Options = {**ask.options, **more}
        with blaming(None):
            return self._asking.choices(
                ids, ask.count, ask.max_tokens or self._max_tokens, **options
            )

    def _held(self, request: ChatRequest) -> Options:
        template = self._model.chat_template
        if request.tools is None or template is None:
            return {}
        return request.tools.options(template.source)

    def _chat_prompt(self, request: ChatRequest) -> list[int]:
        template = self._model.chat_template
        if template is None:
            raise ApiError(f"{self._model.name} has no chat template; ask it with /v1/completions")
        tools = None if request.tools is None else request.tools.schemas
        with blaming("messages"):
            text = template.render(request.messages, tools=tools, **request.variables)  # type: ignore[arg-type]
            # The template writes the BOS itself where the model wants one.
            ids = self._model.tokenizer.encode(text, special=True, add_bos=False)
            if not ids:
                raise InputError("the chat template makes nothing of these messages")
        return ids

    def _chat(self, request: ChatRequest, completions: Sequence[Completion]) -> ChatCompletion:
        return {
            "id": new_id("chatcmpl-"),
            "object": "chat.completion",
            "created": int(time()),
            "model": self._model.name,
            "choices": [
                self._chat_choice(request, index, each) for index, each in enumerate(completions)
            ],
            "usage": usage([completions]),
            "system_fingerprint": None,
        }

    def _chat_choice(self, request: ChatRequest, index: int, answer: Completion) -> ChatChoice:
        message = _message(answer.text, with_tools=request.tools is not None)
        called = "tool_calls" in message and answer.finish_reason == "stop"
        told = answer.logprobs is not None
        return {
            "index": index,
            "message": message,
            "logprobs": chat_logprobs(self._spelling, answer) if told else None,
            "finish_reason": "tool_calls" if called else finish(answer),
        }

    def _text(self, request: TextRequest, completions: Sequence[Completion]) -> TextCompletion:
        count = request.ask.count
        groups = [completions[at : at + count] for at in range(0, len(completions), count)]
        return {
            "id": new_id("cmpl-"),
            "object": "text_completion",
            "created": int(time()),
            "model": self._model.name,
            "choices": [
                self._text_choice(request, index, each) for index, each in enumerate(completions)
            ],
            "usage": usage(groups),
            "system_fingerprint": None,
        }

    def _text_choice(self, request: TextRequest, index: int, answer: Completion) -> TextChoice:
        prompt = request.prompts[index // request.ask.count]
        ids = prompts.to_ids(self._model, prompt) if request.echo else []
        before = self._shown(prompt) if request.echo else ""
        logprobs = None
        if answer.logprobs is not None:
            logprobs = text_logprobs(self._spelling, answer, ids, len(before), request.answers)
        return {
            "index": index,
            "text": before + (answer.text if request.answers else ""),
            "logprobs": logprobs,
            "finish_reason": finish(answer) if request.answers else "length",
        }

    def _shown(self, prompt: str | list[int]) -> str:
        if isinstance(prompt, str):
            return prompt
        return self._model.tokenizer.decode(prompt, skip_special=True)


def _message(text: str, *, with_tools: bool) -> AnswerMessage:
    """The model's turn, its calls apart from the text."""
    rest, found = parse_tool_calls(text) if with_tools else (text, [])
    message: AnswerMessage = {"role": "assistant", "content": rest, "refusal": None}
    if found:
        message["content"] = rest or None
        message["tool_calls"] = [_call(call.name, call.arguments) for call in found]
    return message


def _call(name: str, arguments: str) -> ToolCall:
    return {
        "id": new_id("call_"),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
