"""Tool calls: what a model may write, and what is read back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from overclock.clock import grammar
from overclock.clock.grammar import Grammar, Grammars
from overclock.clock.grammar_tools import ToolCall, convention, parse_tool_calls
from overclock.errors import InputError
from overclock.model.special_tokens import SpecialTokens
from overclock.model.tokenizer import Tokenizer
from tests.clock.grammar_walks import KINDS, allowed, grammars, shown, tokenizer, walk
from tests.model.byte_level import train_byte_level

HERMES, LLAMA3 = "… <tool_call> …", '… {"name": …, "parameters": …} …'
styles = pytest.mark.parametrize("template", [HERMES, LLAMA3], ids=["hermes", "llama3"])
kinds = pytest.mark.parametrize("kind", KINDS)

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Köln", "Roma"]},
        "days": {"$ref": "#/$defs/days"},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 7}},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "get_weather": WEATHER,
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
    'odd "name"': {"properties": {"x": {"type": "boolean"}}, "required": ["x"]},
}


def tool(name: str, parameters: object = None) -> dict[str, Any]:
    function = {"name": name, "description": "…"}
    return {
        "type": "function",
        "function": function if parameters is None else {**function, "parameters": parameters},
    }


TOOLS = [
    tool("get_weather", WEATHER),
    tool("now"),
    tool('odd "name"', PARAMETERS['odd "name"']),
]


def asked(choice: object = "auto", *, template: str = HERMES, parallel: bool = True) -> Grammar:
    made = grammar.tools(TOOLS, choice, template=template, parallel=parallel)
    assert made is not None
    return made


def judge(call: ToolCall) -> None:
    schema = {"type": "object", **PARAMETERS[call.name]}
    Draft202012Validator(schema).validate(json.loads(call.arguments))


@kinds
@styles
def test_a_required_call_is_nothing_but_calls(kind: str, template: str) -> None:
    names = set()
    for seed in range(12):
        text = shown(tokenizer(kind), walk(kind, asked("required", template=template), seed))
        content, calls = parse_tool_calls(text)
        assert content == ""
        assert calls
        for call in calls:
            judge(call)
            names.add(call.name)
    assert names == PARAMETERS.keys()


@styles
def test_one_call_if_not_parallel(template: str) -> None:
    one = asked("required", template=template, parallel=False)
    for seed in range(10):
        text = shown(tokenizer("fixture"), walk("fixture", one, seed))
        assert len(parse_tool_calls(text)[1]) == 1


@styles
@pytest.mark.parametrize("choice", ["now", {"type": "function", "function": {"name": "now"}}])
def test_a_named_tool_is_the_one_called(template: str, choice: object) -> None:
    only = asked(choice, template=template)
    text = shown(tokenizer("fixture"), walk("fixture", only, 0))
    _, calls = parse_tool_calls(text)
    assert calls
    assert {call.name for call in calls} == {"now"}


def accepts(asked: Grammar, text: str, grammars: Grammars, known: Tokenizer) -> bool:
    """Whether `text` may be written to its end."""
    constraint = grammars.start(asked)
    for token in known.encode(text, special=True, add_bos=False):
        if token not in allowed(constraint):
            return False
        constraint.push(token)
    return constraint.finished or bool(known.eos_ids.intersection(allowed(constraint)))


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Roma"}}\n</tool_call>'
WRONG = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rio"}}\n</tool_call>'


@pytest.fixture(params=["text", "special"])
def tagged(request: pytest.FixtureRequest) -> tuple[Grammars, Tokenizer]:
    """A model to which the tags are text, and one to which they are special tokens."""
    if request.param == "text":
        return grammars("fixture"), tokenizer("fixture")
    backend = train_byte_level("qwen2")
    backend.add_special_tokens(["<tool_call>", "</tool_call>"])
    end = int(backend.token_to_id("<|im_end|>") or 0)
    known = Tokenizer(backend, SpecialTokens(eos=end, ends=frozenset([end])))
    return Grammars(known), known


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        ("", True),
        ("No tool is needed: 1 < 2.", True),
        (CALL, True),
        (f"Let me see.\n{CALL}", True),
        (f"{CALL}\n{CALL} and that is it", True),
        (WRONG, False),
        (f"Let me see.\n{WRONG}", False),
        (f"{CALL}\n{WRONG}", False),
        ("<tool_call>\nnothing", False),
        (CALL.removesuffix("</tool_call>"), False),
    ],
)
def test_auto_allows_text_and_holds_calls_to_their_schema(
    tagged: tuple[Grammars, Tokenizer], text: str, is_accepted: bool
) -> None:
    assert accepts(asked("auto"), text, *tagged) == is_accepted


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        ("", True),
        ("No tool is needed.", True),
        ("\n I say {this}.", True),
        ('{"name": "get_weather", "parameters": {"city": "Roma"}}', True),
        ('{"name": "get_weather", "parameters": {"city": "Rio"}}', False),
        ("{this} I say", False),
        ("\n {this} I say", False),
    ],
)
def test_auto_as_llama_3_writes_it(text: str, is_accepted: bool) -> None:
    auto = asked("auto", template=LLAMA3)
    assert accepts(auto, text, grammars("fixture"), tokenizer("fixture")) == is_accepted


def test_auto_without_parallel_calls_allows_one(tagged: tuple[Grammars, Tokenizer]) -> None:
    one = asked("auto", parallel=False)
    assert accepts(one, f"Well, {CALL}", *tagged)
    assert not accepts(one, f"{CALL}\n{CALL}", *tagged)


def test_what_is_fixed_in_a_call_is_forced() -> None:
    constraint = grammars("fixture").start(asked("now"))
    start = shown(tokenizer("fixture"), constraint.forced())
    assert start == '<tool_call>\n{"name": "now", "arguments": {'


def test_none_is_no_grammar() -> None:
    assert grammar.tools(TOOLS, "none") is None


def test_the_convention_is_the_templates() -> None:
    assert convention(HERMES) == "hermes"
    assert convention(LLAMA3) == convention("") == "llama3"


@pytest.mark.parametrize(
    ("tools", "choice", "complaint"),
    [
        ([], "auto", "at least one"),
        ("now", "auto", "must be a list"),
        (None, "auto", "must be a list"),
        ([{"type": "function"}], "auto", "tool 0 must be"),
        ([tool("now"), 3], "auto", "tool 1 must be"),
        ([tool("")], "auto", "tool 0 has the name"),
        ([tool("now", [])], "auto", "'now' must be a JSON schema"),
        ([tool("now", {"const": {1}})], "auto", "written as JSON"),
        ([tool("now"), tool("now")], "none", "two tools"),
        ([tool("now")], "never", "tool choice"),
        ([tool("now")], None, "tool choice"),
        ([tool("now")], {"type": "function", "function": {"name": "then"}}, "tool choice"),
        ([tool("now")], {"type": "function"}, "tool choice"),
        ([tool("a"), tool("now", {"type": "objekt"})], "auto", "'now' cannot be used.*objekt"),
        ([tool("now", {"not": {}})], "auto", "'now' cannot be used.*lenient"),
        ([tool("now", {"x-guidance": 1})], "auto", "x-guidance"),
    ],
)
def test_what_cannot_be_asked_for(tools: Any, choice: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        grammars("fixture").check(grammar.tools(tools, choice, template=HERMES) or asked())


# reading


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("Hello.", "Hello.", []),
        ("", "", []),
        (CALL, "", [("get_weather", {"city": "Roma"})]),
        (
            f"Let me see.\n{CALL}\n{CALL}\nDone.",
            "Let me see.\nDone.",
            [("get_weather", {"city": "Roma"})] * 2,
        ),
        ('<tool_call>{"name":"f","arguments":{}}', "", [("f", {})]),
        ('<tool_call> {"name": "f"} </tool_call>', "", [("f", {})]),
        ('<tool_call>{"arguments": {"a": [1]}, "name": "f"}</tool_call>', "", [("f", {"a": [1]})]),
        ('<tool_call>{"name":"f","arguments":"{\\"a\\":1}"}</tool_call>', "", [("f", {"a": 1})]),
        ('{"name": "f", "parameters": {"a": "é"}}', "", [("f", {"a": "é"})]),
        ('<|python_tag|>{"name": "f", "parameters": {}}', "", [("f", {})]),
        (
            '{"name": "f", "parameters": {}}; {"name": "g", "arguments": {}}',
            "",
            [("f", {}), ("g", {})],
        ),
        (f"<tool_call>oops {CALL}", "<tool_call>oops", [("get_weather", {"city": "Roma"})]),
    ],
)
def test_calls_are_read(text: str, content: str, calls: list[tuple[str, Any]]) -> None:
    found, read = parse_tool_calls(text)
    assert (found, [(call.name, json.loads(call.arguments)) for call in read]) == (content, calls)


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>\n{",
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "[1]"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "{"}</tool_call>',
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>["f"]</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>',
        "<tool_call>" + "[" * 100_000,
        '{"name": "f"',
        '{"name": "f", "parameters": {}} is how you call it',
        '{"title": "f"}',
        "</tool_call>",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert parse_tool_calls(text) == (text, [])


@given(st.lists(st.sampled_from([CALL, WRONG, "<tool_call>", "</tool_call>", "{", "}", '"', "a"])))
def test_anything_can_be_read(parts: list[str]) -> None:
    content, calls = parse_tool_calls("".join(parts))
    assert len(calls) == sum(part in (CALL, WRONG) for part in parts)
    assert all(isinstance(json.loads(call.arguments), dict) for call in calls)
    assert not any(call in content for call in (CALL, WRONG))


@given(st.text(), st.dictionaries(st.text(), st.none() | st.integers() | st.text()))
def test_calls_come_back_as_they_were_written(name: str, arguments: dict[str, Any]) -> None:
    for key, opening, closing in (
        ("arguments", "<tool_call>\n", "\n</tool_call>"),
        ("parameters", "", ""),
    ):
        text = opening + json.dumps({"name": name or "f", key: arguments}) + closing
        content, [call] = parse_tool_calls(text)
        assert (content, call.name, json.loads(call.arguments)) == ("", name or "f", arguments)
