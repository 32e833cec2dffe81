"""Bodies become requests, or errors that name the field."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.clock import grammar
from overclock.clock.sampling import Sampling, SamplingOptions
from overclock.openai.chat import ChatRequest, parse_chat
from overclock.openai.completions import TextRequest, parse_text
from overclock.openai.embeddings import EmbeddingRequest, parse_embedding
from overclock.openai.endpoints import parse
from overclock.openai.errors import ApiError
from tests.openai.bodies import BODIES, CHAT, EMBEDDING, SAMPLING, TEXT, TOOL, damaged, json_values

USER = [{"role": "user", "content": "hi"}]


def chat(**fields: object) -> ChatRequest:
    return parse_chat({"messages": USER, **fields})


# what is understood


def test_every_field_of_a_chat() -> None:
    request = parse_chat(CHAT)
    assert [message["role"] for message in request.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert request.messages[1]["content"] == "Where is "
    called = request.messages[2]["tool_calls"]
    assert isinstance(called, list)
    assert called[0]["function"]["arguments"] == {"place": "Rome"}
    assert (request.ask.max_tokens, request.ask.count, request.total) == (9, 2, 2)
    assert request.ask.options["logprobs"] == 3
    assert request.tools is not None
    assert not request.tools.parallel
    assert request.variables == {"enable_thinking": False}


def test_every_field_of_a_text() -> None:
    request = parse_text(TEXT)
    assert request.prompts == ["hello", "you"]
    assert (request.ask.max_tokens, request.total, request.echo) == (5, 4, True)
    assert request.ask.options["grammar"] == grammar.json_schema({"type": "object"})
    assert request.ask.options["prompt_logprobs"] == 2


def test_sampling_fields_arrive_as_the_engine_names_them() -> None:
    options = parse_chat(CHAT).ask.options
    for name in SamplingOptions.__annotations__.keys() & SAMPLING.keys() - {"seed", "logit_bias"}:
        assert options[name] == SAMPLING[name], name  # type: ignore[literal-required]
    assert options["seed"] == (1 << 64) - 1
    assert options["logit_bias"] == {5: -100.0, 7: 1.5}
    assert options["stop"] == ("\n", "END")


def test_every_rule_of_sampling_can_be_asked_for() -> None:
    assert SamplingOptions.__annotations__.keys() <= SAMPLING.keys() | {"logprobs"}


def test_defaults_are_those_of_openai() -> None:
    request = chat()
    assert request.ask.options == {"temperature": 1.0, "ignore_eos": False}
    assert (request.ask.max_tokens, request.ask.count, request.tools) == (None, 1, None)
    assert parse_text({"prompt": "a"}).ask.max_tokens == 16


@given(st.sampled_from(sorted(CHAT.keys() - {"messages"})))
def test_null_is_as_if_it_were_not_there(name: str) -> None:
    body = {key: value for key, value in CHAT.items() if key != name}
    if name in ("logprobs", "tools"):  # others need it
        body = {"messages": USER}
    assert parse_chat({**body, name: None}) == parse_chat(body)


def test_one_prompt_or_many_as_text_or_tokens() -> None:
    for prompt, prompts in (
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2]], [[1], [2]]),
    ):
        assert parse_text({"prompt": prompt}).prompts == prompts


def test_formats_of_answers() -> None:
    schema = {"type": "object", "properties": {}}
    for form, wanted in (
        ({"type": "text"}, None),
        ({"type": "json_object"}, grammar.json_object()),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            grammar.json_schema(schema),
        ),
        ({"type": "regex", "pattern": "a+"}, grammar.regex("a+")),
        ({"type": "lark", "grammar": 'start: "a"'}, grammar.lark('start: "a"')),
        ({"type": "choice", "options": ["a", "b"]}, grammar.choice(["a", "b"])),
    ):
        assert chat(response_format=form).ask.options.get("grammar") == wanted


def test_tools_that_may_not_be_called_are_not_told_of() -> None:
    assert chat(tools=[TOOL], tool_choice="none").tools is None
    assert chat(tools=[TOOL]).tools is not None


def test_texts_to_embed() -> None:
    assert parse_embedding(EMBEDDING) == EmbeddingRequest("any", ["hello", "you"], 4, True)
    assert parse_embedding({"input": "a"}) == EmbeddingRequest(None, ["a"], None, False)


# what is refused


def refused(url: str, body: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(url, body)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [*USER, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": "a", "mood": 1}]}, "messages[0].mood"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
        ),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1.0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"seed": 1 << 64}, "seed"),
        ({"tempreature": 1}, "tempreature"),
        ({"functions": [{"name": "a"}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "code"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "weather"}, "tool_choice"),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "function", "function": {"name": "time"}},
            },
            "tool_choice",
        ),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "choice", "options": []}}, "response_format"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_a_wrong_chat_names_the_field(fields: dict[str, object], param: str) -> None:
    error = refused("/v1/chat/completions", {"messages": USER, **fields})
    assert (error.status, error.type, error.param) == (400, "invalid_request_error", param)
    assert error.body()["error"]["message"] == str(error)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [1, True]}, "prompt"),
        ({"prompt": ["a"] * 2049}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True}, "logprobs"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"messages": USER}, "messages"),
    ],
)
def test_a_wrong_text_names_the_field(fields: dict[str, object], param: str) -> None:
    assert refused("/v1/completions", {"prompt": "a", **fields}).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_a_wrong_embedding_names_the_field(fields: dict[str, object], param: str) -> None:
    assert refused("/v1/embeddings", {"input": "a", **fields}).param == param


def test_an_unknown_url() -> None:
    for url in ("/v1/images", None, 3, ["/v1/completions"]):
        assert refused(url, {}).status == 404  # type: ignore[arg-type]


# laws


def outcome(url: str, body: object) -> object:
    """What comes of a body: a request or the error."""
    try:
        return parse(url, body)
    except ApiError as error:
        return error


@given(st.sampled_from(sorted(BODIES)), json_values)
def test_any_json_is_a_request_or_an_api_error(url: str, body: object) -> None:
    assert isinstance(outcome(url, body), ApiError | EmbeddingRequest)


damaged_bodies = st.sampled_from(sorted(BODIES)).flatmap(
    lambda url: st.tuples(st.just(url), damaged(BODIES[url]))
)


@given(damaged_bodies)
def test_any_damage_is_a_request_or_an_api_error(pair: tuple[str, dict[str, Any]]) -> None:
    url, body = pair
    found = outcome(url, body)
    if isinstance(found, ApiError):
        assert found.status == 400
        assert found.param is not None
        assert re.split(r"[.\[]", found.param)[0] in {*BODIES[url], *body, "max_tokens"}
    if isinstance(found, ChatRequest | TextRequest):  # what the engine will make of it
        rules = SamplingOptions.__annotations__.keys() & found.ask.options.keys()
        Sampling(**{name: found.ask.options[name] for name in rules})  # type: ignore[literal-required]
