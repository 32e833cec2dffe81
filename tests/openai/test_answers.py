"""Answers are OpenAI's objects, as its own package reads them, and say what the engine did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import isclose
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from jsonschema import validate
from numpy.typing import NDArray
from openai.types import Completion as OpenAICompletion
from openai.types.chat import ChatCompletion as OpenAIChatCompletion
from pydantic import BaseModel

from overclock import LLM
from overclock.clock.completion import Completion, Piece
from overclock.clock.roster import Event
from overclock.clock.sequence import Ticket
from overclock.openai.answers import Answers
from overclock.openai.chat import parse_chat
from overclock.openai.completions import parse_text
from overclock.openai.errors import ApiError
from tests.checkpoints import FIXTURES
from tests.openai.bodies import TOOL

USER = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(FIXTURES / "llama", machine="reference") as llm:
        yield llm


def strictly(kind: type[BaseModel], body: object) -> Any:
    """`body` as the openai package reads it, with nothing it does not know and nothing coerced."""
    found = kind.model_validate_json(json.dumps(body), strict=True)
    assert not extras(found)
    return found


def extras(model: BaseModel) -> list[str]:
    found = list(model.model_extra or ())
    for value in dict(model).values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, BaseModel):
                found += extras(each)
    return found


def completions(llm: LLM, request: Any) -> list[Completion]:
    events: SimpleQueue[Event] = SimpleQueue()
    tickets = [llm.driver.submit(each, events.put) for each in Answers(llm).requests(request)]
    found: dict[Ticket, Completion | None] = {}
    while len(found) < len(tickets):
        event = events.get()
        assert isinstance(event.content, Piece)
        found[event.ticket] = event.content.completion
    return [answer for ticket in tickets if (answer := found[ticket]) is not None]


def chat(llm: LLM, **fields: object) -> Any:
    request = parse_chat({"messages": USER, "max_tokens": 6, "temperature": 0, **fields})
    body = Answers(llm).answer(request, completions(llm, request))
    return strictly(OpenAIChatCompletion, body)


def text(llm: LLM, prompt: object, **fields: object) -> Any:
    request = parse_text({"prompt": prompt, "max_tokens": 6, "temperature": 0, **fields})
    body = Answers(llm).answer(request, completions(llm, request))
    return strictly(OpenAICompletion, body)


def logprobs_of(llm: LLM, ids: Sequence[int]) -> NDArray[np.float64]:
    """Of each token but the first, from the engine's logits."""
    logits = np.concatenate(list(llm.score(list(ids)))).astype(np.float64)
    scores = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    scores -= logits.max(1, keepdims=True)
    found: NDArray[np.float64] = scores[np.arange(len(ids) - 1), ids[1:]]
    return found


def no_blanks(llm: LLM) -> dict[str, float]:
    """A bias against white space, of which a model without training writes all that it may."""
    blanks = [llm.model.tokenizer.encode(blank, add_bos=False) for blank in " \n\r\t"]
    return {str(token): -100.0 for ids in blanks for token in ids}


# chat


def test_a_chat_says_what_the_engine_says(llm: LLM) -> None:
    answer = chat(llm)
    expected = llm.generate(USER, 6)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason == "length"
    assert answer.choices[0].logprobs is None
    assert answer.model == llm.model.name
    assert answer.usage.prompt_tokens == len(llm.encode(USER))
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6


def test_a_stop_string_ends_an_answer(llm: LLM) -> None:
    whole = chat(llm).choices[0].message.content
    choice = chat(llm, stop=whole[2], logprobs=True).choices[0]
    assert (choice.message.content, choice.finish_reason) == (whole[:2], "stop")
    assert choice.logprobs is not None
    assert len(choice.logprobs.content) == 2


def test_answers_without_a_limit_fill_the_context(llm: LLM) -> None:
    used = chat(llm, max_tokens=None, ignore_eos=True).usage
    assert used.total_tokens == llm.context + 1  # the last token is never run


def test_choices_have_seeds_of_their_own(llm: LLM) -> None:
    answer = chat(llm, n=3, temperature=2.0, seed=5)
    alone = [chat(llm, temperature=2.0, seed=seed).choices[0] for seed in (5, 6, 7)]
    assert [each.message.content for each in answer.choices] == [
        each.message.content for each in alone
    ]
    assert [each.index for each in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens == 18
    assert answer.usage.prompt_tokens == len(llm.encode(USER))


def test_a_second_answer_finds_the_prompt_in_the_cache(llm: LLM) -> None:
    long = [{"role": "user", "content": "x" * 90}]
    first, second = (chat(llm, messages=long, salt="alone") for _ in range(2))
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens > 0


def test_logprobs_of_a_chat(llm: LLM) -> None:
    choice = chat(llm, logprobs=True, top_logprobs=3).choices[0]
    tokens = llm.generate(USER, 6).token_ids
    prompt = llm.encode(USER)
    expected = logprobs_of(llm, [*prompt, *tokens])[len(prompt) - 1 :]
    content = choice.logprobs.content
    assert np.allclose([each.logprob for each in content], expected, atol=1e-4)
    assert all(len(each.top_logprobs) == 3 for each in content)
    for each in content:  # greedy: the token taken is the likeliest
        assert each.top_logprobs[0].bytes == each.bytes
        assert isclose(each.top_logprobs[0].logprob, each.logprob)
    joined = b"".join(bytes(each.bytes) for each in content)
    assert joined.decode(errors="replace").strip() == choice.message.content.strip()


@pytest.mark.parametrize(
    "last", [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 9}]
)
def test_a_schema_is_held_to(llm: LLM, last: object) -> None:
    """Also where the end is forced: several tokens come at once then."""
    schema = {
        "type": "object",
        "properties": {"place": {"enum": ["Rome", "Oslo"]}, "last": last},
        "required": ["place", "last"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}
    choice = chat(llm, max_tokens=100, response_format=form, logit_bias=no_blanks(llm)).choices[0]
    validate(json.loads(choice.message.content), schema)
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_tool_is_called(llm: LLM, choice: object) -> None:
    fields = {"tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": False}
    found = chat(llm, max_tokens=100, logit_bias=no_blanks(llm), **fields).choices[0]
    assert found.finish_reason == "tool_calls"
    assert found.message.content is None
    [call] = found.message.tool_calls
    assert call.function.name == "weather"
    validate(json.loads(call.function.arguments), TOOL["function"]["parameters"])  # type: ignore[index]


def test_an_answer_goes_back_as_a_message(llm: LLM) -> None:
    """What was answered can be sent again, as agents do."""
    fields = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    request = parse_chat({"messages": USER, "logit_bias": no_blanks(llm), **fields})
    body = Answers(llm).answer(request, completions(llm, request))
    choice: Any = body["choices"][0]
    again = parse_chat({"messages": [*USER, choice["message"]], "tools": [TOOL]})
    calls: Any = again.messages[1]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather"]


# text


def test_texts_are_continued_in_order(llm: LLM) -> None:
    prompts = ["hello", "the sky"]
    answer = text(llm, prompts, n=2)
    expected = [llm.generate(prompt, 6).text for prompt in prompts for _ in range(2)]
    assert [choice.text for choice in answer.choices] == expected
    assert answer.usage.prompt_tokens == sum(len(llm.encode(prompt)) for prompt in prompts)
    assert answer.usage.completion_tokens == 24
    ids = [llm.encode(prompt) for prompt in prompts]
    assert [choice.text for choice in text(llm, ids).choices] == expected[::2]


def test_echo_puts_the_prompt_in_front(llm: LLM) -> None:
    answer = llm.generate("hello", 6).text
    assert text(llm, "hello", echo=True).choices[0].text == "hello" + answer
    only = text(llm, "hello", echo=True, max_tokens=0)
    assert only.choices[0].text == "hello"


@pytest.mark.parametrize("max_tokens", [0, 6])
def test_logprobs_of_prompt_and_answer(llm: LLM, max_tokens: int) -> None:
    request = parse_text(
        {"prompt": "hello", "max_tokens": max_tokens, "echo": True, "logprobs": 2, "temperature": 0}
    )
    found = completions(llm, request)
    body: Any = Answers(llm).answer(request, found)
    told = body["choices"][0]["logprobs"]
    ids = [*llm.encode("hello"), *(found[0].token_ids if max_tokens else [])]
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    assert np.allclose(told["token_logprobs"][1:], logprobs_of(llm, ids), atol=1e-4)
    assert {len(column) for column in told.values()} == {len(ids)}
    assert told["text_offset"][:6] == [0, 0, 1, 2, 3, 4]  # the BOS has no text
    assert told["tokens"][1:6] == list("hello")
    for token, logprob, top in list(zip(*(told[key] for key in list(told)[:3])))[1:]:
        assert top[token] == logprob
        assert len(top) in (2, 3)


# what cannot be asked of a model


def asked(llm: LLM, request: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        list(Answers(llm).requests(request))
    return caught.value


def test_a_prompt_longer_than_the_context(llm: LLM) -> None:
    long = [{"role": "user", "content": "x" * 500}]
    error = asked(llm, parse_chat({"messages": long}))
    assert (error.status, error.code) == (400, "context_length_exceeded")


def test_what_only_the_model_can_tell(llm: LLM) -> None:
    for fields in (
        {"logit_bias": {"288": 1}},
        {"adapter": "unknown"},
        {"stop_token_ids": [1000]},
        {"response_format": {"type": "regex", "pattern": "("}},
    ):
        assert asked(llm, parse_chat({"messages": USER, **fields})).status == 400
    for prompt in ("", [288], [-1]):
        error = asked(llm, parse_text({"prompt": prompt}))
        assert (error.status, error.param) == (400, "prompt")


def test_a_model_without_a_template_takes_texts() -> None:
    with LLM(FIXTURES / "gemma3", machine="reference") as llm:
        assert "/v1/completions" in str(asked(llm, parse_chat({"messages": USER})))
        assert text(llm, "hello").choices[0].text == llm.generate("hello", 6).text
