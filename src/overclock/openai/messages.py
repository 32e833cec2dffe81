"""The messages of a conversation, checked and made ready for a chat template."""

from __future__ import annotations

import json

from overclock.openai.errors import ApiError
from overclock.openai.fields import Fields

Message = dict[str, object]

_ROLES = ("system", "developer", "user", "assistant", "tool")


def read_messages(body: Fields) -> list[Message]:
    """The messages as templates know them. Raises ApiError for what is wrong with one.

    Contents become plain text. A developer's message becomes a system message, which is what the
    templates of open models know it as; the arguments of tool calls become objects.
    """
    values = body.items("messages")
    if not values:
        raise body.wrong("messages", values, "a list of at least one message")
    return [_message(Fields(value, f"messages[{i}]")) for i, value in enumerate(values)]


def _message(fields: Fields) -> Message:
    role = fields.one_of("role", _ROLES)
    if role is None:
        raise fields.wrong("role", None, f"one of {', '.join(_ROLES)}")
    message: Message = {"role": "system" if role == "developer" else role}
    calls = _calls(fields) if role == "assistant" else []
    message["content"] = _content(fields, can_be_empty=bool(calls))
    if calls:
        message["tool_calls"] = calls
    if role == "tool":
        message["tool_call_id"] = fields.needed_text("tool_call_id")
    name = fields.text("name")
    if name is not None:
        message["name"] = name
    fields.done()
    return message


def _content(fields: Fields, *, can_be_empty: bool) -> str | None:
    value = fields.take("content")
    if isinstance(value, str) or (value is None and can_be_empty):
        return value
    if not isinstance(value, list):
        raise fields.wrong("content", value, "text or a list of text parts")
    path = fields.path("content")
    return "".join(_part(Fields(part, f"{path}[{i}]")) for i, part in enumerate(value))


def _part(part: Fields) -> str:
    if part.text("type") != "text":
        raise ApiError(
            f'{part.path("type")} must be "text": text is all that this model reads',
            param=part.path("type"),
        )
    text = part.needed_text("text")
    part.done()
    return text


def _calls(fields: Fields) -> list[Message]:
    """The tool calls of an assistant's message; what else our own answers carry says nothing."""
    fields.ignore("annotations")
    fields.refuse("refusal", "audio", "function_call")
    path = fields.path("tool_calls")
    values = fields.items("tool_calls") or []
    return [_call(Fields(value, f"{path}[{i}]")) for i, value in enumerate(values)]


def _call(call: Fields) -> Message:
    id = call.needed_text("id")
    if call.text("type") != "function":
        raise ApiError(f'{call.path("type")} must be "function"', param=call.path("type"))
    function = call.object("function")
    if function is None:
        raise call.wrong("function", None, "an object with name and arguments")
    name, arguments = function.needed_text("name"), _arguments(function)
    function.done()
    call.done()
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _arguments(function: Fields) -> dict[str, object]:
    """Templates write arguments as JSON themselves, so they want the object, not its text."""
    text = function.needed_text("arguments")
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise function.wrong("arguments", text, "the text of a JSON object")
    return value
