"""`/v1/chat/completions`: what a body asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overclock.asking import Options
from overclock.clock import grammar
from overclock.clock.sampling import MOST_LOGPROBS
from overclock.openai import options
from overclock.openai.errors import ApiError, blaming
from overclock.openai.fields import Fields
from overclock.openai.messages import Message, read_messages
from overclock.openai.options import Ask

_OF_THE_TEMPLATE = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}
_CHOICES = '"none", "auto", "required" or {"type": "function", "function": {"name": …}}'


@dataclass(frozen=True, slots=True)
class Tools:
    """Functions that may be called. choice: as the API has it; parallel: several at once."""

    schemas: list[Mapping[str, object]]
    choice: object
    parallel: bool

    def options(self, template: str) -> Options:
        """What holds an answer to them, in the way that a chat template teaches to call."""
        made = grammar.tools(self.schemas, self.choice, template=template, parallel=self.parallel)
        return {"grammar": made}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be continued.

    tools: None if none may be called; variables: what the template is told beside the messages
    """

    ask: Ask
    messages: list[Message]
    tools: Tools | None
    variables: Mapping[str, object]

    @property
    def total(self) -> int:
        """How many answers there will be."""
        return self.ask.count


def parse_chat(value: object) -> ChatRequest:
    """The request of a body. Raises ApiError, which names the field, for what is wrong."""
    body = Fields(value)
    messages = read_messages(body)
    tools = _tools(body)
    variables = _variables(body)
    ask = options.read(body, _max_tokens(body), _logprobs(body))
    if tools is not None and "grammar" in ask.options:
        raise ApiError(
            "response_format cannot be combined with tools; leave one of them out",
            param="response_format",
        )
    _refuse(body)
    body.done()
    return ChatRequest(ask, messages, tools, variables)


def _max_tokens(body: Fields) -> int | None:
    if body.has("max_tokens") and body.has("max_completion_tokens"):
        raise ApiError(
            "max_tokens and max_completion_tokens mean the same; give one of them",
            param="max_tokens",
        )
    old = body.whole("max_tokens", 1, options.MOST_TOKENS)
    return old or body.whole("max_completion_tokens", 1, options.MOST_TOKENS)


def _logprobs(body: Fields) -> int | None:
    wanted = body.flag("logprobs")
    top = body.whole("top_logprobs", 0, MOST_LOGPROBS)
    if top is not None and not wanted:
        raise ApiError("top_logprobs needs logprobs to be true", param="top_logprobs")
    return (top or 0) if wanted else None


def _variables(body: Fields) -> Mapping[str, object]:
    value = body.take("chat_template_kwargs")
    if value is None:
        return {}
    if not isinstance(value, Mapping) or value.keys() & _OF_THE_TEMPLATE:
        reserved = ", ".join(sorted(_OF_THE_TEMPLATE))
        raise body.wrong("chat_template_kwargs", value, f"an object without {reserved}")
    return value


def _tools(body: Fields) -> Tools | None:
    """The tools that may be called; with the choice "none", the model does not hear of any."""
    values = body.items("tools") or []
    choice = body.take("tool_choice")
    parallel = body.flag("parallel_tool_calls", default=True)
    if not values:
        if choice not in (None, "none", "auto"):
            raise ApiError("tool_choice needs tools to choose from", param="tool_choice")
        return None
    choice = "auto" if choice is None else _choice(body, choice)
    schemas = [_tool(value, f"tools[{i}]") for i, value in enumerate(values)]
    made = Tools(schemas, choice, parallel)
    with blaming("tools" if choice in ("auto", "none", "required") else "tool_choice"):
        made.options(template="")
    return None if choice == "none" else made


def _choice(body: Fields, choice: object) -> object:
    if isinstance(choice, str) and choice in ("none", "auto", "required"):
        return choice
    if not isinstance(choice, Mapping):
        raise body.wrong("tool_choice", choice, _CHOICES)
    fields = Fields(choice, "tool_choice")
    fields.one_of("type", ("function",))
    function = fields.object("function")
    if function is None:
        raise body.wrong("tool_choice", choice, _CHOICES)
    function.needed_text("name")
    function.done()
    fields.done()
    return choice


def _tool(value: object, path: str) -> Mapping[str, object]:
    fields = Fields(value, path)
    if fields.one_of("type", ("function",)) is None:
        raise fields.wrong("type", None, '"function"')
    function = fields.object("function")
    if function is None:
        raise fields.wrong("function", None, "an object with a name")
    function.needed_text("name")
    function.text("description")
    function.object("parameters")
    function.flag("strict")  # arguments are always held to their schema
    function.done()
    fields.done()
    assert isinstance(value, Mapping)
    return value


def _refuse(body: Fields) -> None:
    if body.take("modalities") not in (None, ["text"]):
        raise ApiError('modalities must be ["text"]: text is all there is', param="modalities")
    body.refuse(
        "audio", "prediction", "functions", "function_call", "web_search_options",
        "reasoning_effort", "verbosity", "moderation",
    )  # fmt: skip
