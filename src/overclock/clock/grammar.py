"""Structured output: text that follows a JSON schema, a regular expression or a grammar.

Before a token is chosen, the tokens that would break the grammar are masked out. The masks come
from llguidance (an Earley parser over a lexer of derivatives, walked along the trie of all
tokens); this module gives it our tokenizers, keeps what it compiled, and turns its complaints into
sentences.

JSON is written compactly or with white space, as the model likes: at most `MOST_SPACE` characters
of it in one place, so that a model cannot go on with blanks for ever. Properties come in the order
of the schema. A schema may say otherwise with llguidance's own key ``x-guidance``.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

from overclock.clock import grammar_tools
from overclock.clock.grammar_constraint import Compiled, Constraint, Engine, Program
from overclock.clock.grammar_tokens import Tokens
from overclock.errors import InputError
from overclock.model.tokenizer import Tokenizer

__all__ = [
    "MOST_SPACE",
    "Constraint",
    "Grammar",
    "Grammars",
    "choice",
    "json_object",
    "json_schema",
    "lark",
    "regex",
    "tools",
]

Kind = Literal["json_schema", "regex", "lark", "choice", "json_object", "tools"]

MOST_SPACE = 20
"""Characters of white space in one place: a line end and the indentation of deep JSON."""

_KEPT = 32  # compiled grammars of a model
_NAMES: dict[Kind, str] = {
    "json_schema": "the JSON schema",
    "regex": "the regular expression",
    "lark": "the Lark grammar",
    "choice": "the choice",
    "json_object": "the JSON object",
    "tools": "the tools",
}


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a text must be. source: the schema, expression, … as text; make one with a function."""

    kind: Kind
    source: str


def json_schema(schema: Mapping[str, object] | str) -> Grammar:
    """JSON that a schema (draft 2020-12, given as an object or as text) allows.

    Raises:
        InputError: it is not a JSON object. What it says is checked by `Grammars.check`.
    """
    return Grammar("json_schema", _dumped(_schema(schema), "the JSON schema"))


def json_object() -> Grammar:
    """Any JSON object."""
    return Grammar("json_object", "")


def regex(pattern: str) -> Grammar:
    r"""Text that matches `pattern` as a whole (Rust's syntax: no look-around, no references).

    ``\d`` and ``\w`` are the digits and letters of every script: write ``[0-9]`` for ours.
    """
    return Grammar("regex", _text(pattern, "the regular expression"))


def lark(text: str) -> Grammar:
    """Text that a context-free grammar in llguidance's variant of Lark derives from ``start``."""
    return Grammar("lark", _text(text, "the Lark grammar"))


def choice(options: Sequence[str]) -> Grammar:
    """Exactly one of `options`.

    Raises:
        InputError: there are none, or one is empty or no text.
    """
    if isinstance(options, str) or not isinstance(options, Sequence) or not options:
        raise InputError(f"a choice needs a list of texts, not {options!r}")
    listed = [_text(option, "an option of a choice") for option in options]
    return Grammar("choice", json.dumps(list(dict.fromkeys(listed))))


def tools(
    schemas: Sequence[Mapping[str, object]],
    tool_choice: object = "auto",
    *,
    template: str = "",
    parallel: bool = True,
) -> Grammar | None:
    """Text that calls tools as the model's chat `template` (its source) teaches; None: any text.

    schemas, tool_choice: as the OpenAI API has them. "required" and a named tool allow nothing
    but calls; "auto" allows text, and holds to the schemas from where a call begins; "none" is no
    grammar. parallel: several calls in one answer.

    Raises:
        InputError: a tool or the choice is malformed.
    """
    found = grammar_tools.check_tools(schemas)
    if tool_choice == "none":
        return None
    source = {
        "tools": [
            [tool.name, tool.parameters] for tool in grammar_tools.chosen(found, tool_choice)
        ],
        "must_call": tool_choice != "auto",
        "parallel": parallel,
        "style": grammar_tools.convention(template),
    }
    return Grammar("tools", _dumped(source, "a tool's parameters"))


class Grammars:
    """The compiled grammars of one model. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int | None = None) -> None:
        """For a model of `vocabulary` ids (V); by default as many as the tokenizer knows of."""
        self._engine = Engine(Tokens(tokenizer, vocabulary or tokenizer.vocabulary))
        self._kept: OrderedDict[Grammar, Compiled] = OrderedDict()
        self._lock = Lock()

    def check(self, grammar: Grammar) -> None:
        """Compile `grammar` (and keep it), so that starting it is quick.

        Raises:
            InputError: it is malformed, uses what is not supported, or no text matches it.
        """
        self._compiled(grammar)

    def start(self, grammar: Grammar) -> Constraint:
        """A constraint for one answer.

        Raises:
            InputError: see `check`.
        """
        return Constraint(self._compiled(grammar))

    def _compiled(self, grammar: Grammar) -> Compiled:
        with self._lock:
            compiled = self._kept.get(grammar)
            if compiled is None:
                program = _program(grammar, self._engine)
                compiled = self._engine.compile(program, _NAMES[grammar.kind])
                self._kept[grammar] = compiled
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(grammar)
        return compiled


# the kinds, as what llguidance reads: one entry of its list of grammars


def _program(grammar: Grammar, engine: Engine) -> Program:
    match grammar.kind:
        case "json_schema":
            return {"json_schema": _spaced(json.loads(grammar.source))}
        case "json_object":
            return {"json_schema": _spaced({"type": "object"})}
        case "regex":
            return engine.regex(grammar.source)
        case "lark":
            return {"lark_grammar": grammar.source}
        case "choice":
            options = map(grammar_tools.quoted, json.loads(grammar.source))
            return {"lark_grammar": f"start: CHOICE\nCHOICE: {' | '.join(options)}"}
        case "tools":
            return _tools_program(engine, **json.loads(grammar.source))


def _tools_program(
    engine: Engine, tools: list[tuple[str, dict[str, object]]], **how: Any
) -> Program:
    found = [grammar_tools.Tool(name, _spaced(parameters)) for name, parameters in tools]
    for tool in found:  # one by one, so that a complaint can name the tool
        engine.check({"json_schema": tool.parameters}, f"the schema of the tool {tool.name!r}")
    ids = map(engine.tokens.special_id, (grammar_tools.OPEN, grammar_tools.CLOSE))
    texts = (grammar_tools.OPEN, grammar_tools.CLOSE)
    opening, closing = (
        grammar_tools.quoted(text) if id is None else f"<[{id}]>" for text, id in zip(texts, ids)
    )
    return {"lark_grammar": grammar_tools.lark(found, marks=(opening, closing), **how)}


def _spaced(schema: dict[str, object]) -> dict[str, object]:
    """`schema` with our limit of white space, unless it has a rule of its own."""
    own = schema.get("x-guidance", {})
    if not isinstance(own, dict):
        raise InputError("x-guidance in a JSON schema must be an object")
    if own.keys() & {"whitespace_pattern", "whitespace_flexible"}:
        return schema
    pattern = f"[ \\t\\r\\n]{{1,{MOST_SPACE}}}"
    return {**schema, "x-guidance": {"whitespace_pattern": pattern, **own}}


# what is asked for, checked


def _schema(schema: object) -> Mapping[str, object]:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the JSON schema is no JSON: {error}") from error
    if not isinstance(schema, Mapping):
        raise InputError(f"a JSON schema must be an object, not {schema!r}")
    return schema


def _dumped(value: object, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what} cannot be written as JSON: {error}") from error


def _text(text: object, what: str) -> str:
    if not isinstance(text, str) or not text:
        raise InputError(f"{what} must be text and not empty, not {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not Unicode: {error.reason}") from error
    return text
