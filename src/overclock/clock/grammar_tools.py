r"""Tool calls: the text a model calls a function with, as a grammar, and read back from its answer.

Two conventions are written, whichever the model's chat template teaches:

- Hermes and Qwen: any number of ``<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>``
- Llama 3: the whole answer is ``{"name": …, "parameters": {…}}``

Tools and the choice among them are given as the OpenAI API does (``tools``, ``tool_choice``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from overclock.errors import InputError

Convention = Literal["hermes", "llama3"]

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_ARGUMENTS: dict[Convention, str] = {"hermes": "arguments", "llama3": "parameters"}
_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
_CHOICES = "'auto', 'none', 'required' or the name of a tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made. arguments: a JSON object, as text."""

    name: str
    arguments: str


def convention(template: str) -> Convention:
    """How calls are written, from the text of the model's chat template."""
    return "hermes" if OPEN in template else "llama3"


# tools → grammar


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called. parameters: the JSON schema of its arguments."""

    name: str
    parameters: dict[str, object]


def check_tools(tools: object) -> list[Tool]:
    """The tools of a request. Raises InputError for what is none."""
    if not isinstance(tools, Sequence) or isinstance(tools, str | bytes) or not tools:
        raise InputError("tools must be a list of at least one tool")
    found = [_tool(index, tool) for index, tool in enumerate(tools)]
    names = [tool.name for tool in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two tools have the name {name!r}; give each its own")
    return found


def _tool(index: int, tool: object) -> Tool:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping):
        raise InputError(
            f'tool {index} must be {{"type": "function", '
            f'"function": {{"name": …, "parameters": …}}}}, not {tool!r}'
        )
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f"tool {index} has the name {name!r}; it must be text and not empty")
    return Tool(name, _parameters(name, function.get("parameters")))


def _parameters(name: str, schema: object) -> dict[str, object]:
    if schema is None:
        return dict(_NO_PARAMETERS)
    if not isinstance(schema, Mapping):
        raise InputError(f"the parameters of the tool {name!r} must be a JSON schema (an object)")
    return {"type": "object", **schema}


def chosen(tools: list[Tool], choice: object) -> list[Tool]:
    """The tools that may be called.

    choice: "auto", "required", a tool's name, or the API's
    ``{"type": "function", "function": {"name": …}}``

    Raises:
        InputError: the choice is none of these.
    """
    if choice in ("auto", "required"):
        return tools
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else choice
    named = [tool for tool in tools if tool.name == name]
    if not named:
        names = ", ".join(tool.name for tool in tools)
        raise InputError(f"the tool choice must be {_CHOICES} ({names}), not {choice!r}")
    return named


def lark(
    tools: Sequence[Tool],
    *,
    must_call: bool,
    parallel: bool,
    style: Convention,
    marks: tuple[str, str],
) -> str:
    """The grammar of an answer that may (or must) call `tools`, in llguidance's Lark.

    parallel: several calls may follow each other (Hermes only; Llama 3 has one call);
    marks: how the grammar spells the opening and closing tags: quoted text, or a special token
    such as ``<[151657]>``. What is fixed in a call is spelled as the templates write it, so that
    only names and arguments are left to the model.
    """
    rules = _hermes(must_call, parallel, *marks) if style == "hermes" else _llama3(must_call)
    for index, tool in enumerate(tools):
        head = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "{_ARGUMENTS[style]}": '
        rules.append(f'call{index}: {quoted(head)} arguments{index} "}}"')
        rules.append(f"arguments{index}: %json {json.dumps(tool.parameters)}")
    calls = " | ".join(f"call{index}" for index in range(len(tools)))
    return "\n".join([*rules, f"body: {calls}"])


def _hermes(must_call: bool, parallel: bool, opening: str, closing: str) -> list[str]:
    inside = f'"\\n" body "\\n" {closing}'
    if must_call:
        more = ' ("\\n" call)*' if parallel else ""
        return [f"start: call{more}", f"call: {opening} {inside}"]
    if opening.startswith("<["):  # a special token: text cannot contain it
        start = f"start: text? (call text?){'*' if parallel else '?'}"
        return [start, f"call: {opening} {inside}", "text: TEXT", r"TEXT: /(.|\n)+/"]
    # Text goes on until the tag is complete; from there on it is a call.
    return [
        "start: call* text" if parallel else "start: call rest | text",
        f"call: head {inside}",
        f"head[lazy]: TEXT {opening}",
        "text: TEXT",
        r"TEXT: /(.|\n)*/",
        "rest: REST",
        rf"REST: /(.|\n)*/ & ~/(.|\n)*{OPEN}(.|\n)*/",
    ]


def _llama3(must_call: bool) -> list[str]:
    if must_call:
        return ["start: body"]
    # An answer that begins with a brace is a call.
    return ["start: text | body", "text: TEXT", r"TEXT: /\s*([^\s{](.|\n)*)?/"]


def quoted(text: str) -> str:
    """`text` as a string of a Lark grammar."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


# answer → calls

_JSON = json.JSONDecoder(parse_constant=lambda name: _refuse(name))
_HEAD = re.compile(r"\s*(?:<\|python_tag\|>\s*)?")
_BETWEEN = re.compile(r"[\s;,]*")
_AFTER_CALL = re.compile(rf"\s*(?:{CLOSE}\s*)?")


def parse_tool_calls(text: str) -> tuple[str, list[ToolCall]]:
    """An answer's text without its calls, and the calls, in either convention.

    What looks like a call but is not one (damaged JSON, no name, arguments that are no object)
    stays in the text.
    """
    if OPEN in text:
        return _tagged(text)
    calls = list(_bare(text))
    return ("", calls) if calls else (text, [])


def _tagged(text: str) -> tuple[str, list[ToolCall]]:
    calls: list[ToolCall] = []
    kept: list[str] = []
    at = 0
    while (start := text.find(OPEN, at)) >= 0:
        found = _call(text, start + len(OPEN))
        if found is None:
            kept.append(text[at : start + len(OPEN)])
            at = start + len(OPEN)
            continue
        call, end = found
        kept.append(text[at:start])
        calls.append(call)
        after = _AFTER_CALL.match(text, end)
        at = end if after is None else after.end()
    kept.append(text[at:])
    return ("".join(kept).strip() if calls else text), calls


def _bare(text: str) -> Iterator[ToolCall]:
    """The calls of an answer that is nothing but calls."""
    head = _HEAD.match(text)
    at = 0 if head is None else head.end()
    calls = []
    while at < len(text):
        found = _call(text, at)
        if found is None:
            return
        calls.append(found[0])
        between = _BETWEEN.match(text, found[1])
        at = found[1] if between is None else between.end()
    yield from calls


def _call(text: str, at: int) -> tuple[ToolCall, int] | None:
    """The call whose JSON begins at `at` (behind white space), and where it ends."""
    at += len(text[at:]) - len(text[at:].lstrip())
    try:
        value, end = _JSON.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    call = _as_call(value)
    return None if call is None else (call, end)


def _as_call(value: object) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # some models write the object as a string
        try:
            arguments = _JSON.decode(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(arguments, dict):
        return None
    try:
        return ToolCall(value["name"], json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except ValueError:  # a number that no float holds
        return None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
