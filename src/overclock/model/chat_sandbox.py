"""The environment that chat templates run in: Jinja's immutable sandbox with bounds.

Set up as `transformers` does: `trim_blocks`, `lstrip_blocks`, loop controls, ``{% generation %}``,
`tojson` without HTML escapes, `raise_exception`, `strftime_now`. What is bounded, and how, is in
`overclock.model.chat_guards` and `overclock.model.chat_limits`.

Imported only when a template is used: Jinja takes its time to load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeVar

from jinja2 import nodes
from jinja2.environment import Template
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from overclock.errors import InputError, ModelError, OverclockError
from overclock.model import chat_limits
from overclock.model.chat_functions import FILTERS_ALLOWED, GLOBALS, TESTS_ALLOWED, RefusedError
from overclock.model.chat_guards import GUARDS, Guards
from overclock.model.chat_limits import Limits, bounded, budget, made

T = TypeVar("T")

_SOURCE = 100_000  # characters of a template; the longest in use have about 30,000

_TEXT_METHODS = """
    capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower
    isnumeric isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace
    rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
"""
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(_TEXT_METHODS.split()),
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    list: frozenset(("copy", "count", "index")),
    tuple: frozenset(("count", "index")),
    int: frozenset(),
    float: frozenset(),
    bytes: frozenset(),
}

_FORESEEN: dict[str, Callable[[object, object], None]] = {
    "+": chat_limits.allow_sum,
    "*": chat_limits.allow_product,
    "**": chat_limits.allow_power,
    "%": chat_limits.allow_format,
}


def compile(source: str, limits: Limits | None = None) -> Template:
    """The template, ready for `render`.

    Raises:
        ModelError: it is too long or no valid template.
    """
    if len(source) > _SOURCE:
        raise ModelError(f"the model's chat template has {len(source):,} characters; too many")
    with bounded(limits):
        return _contained(lambda: _environment().from_string(source))


def render(template: Template, values: Mapping[str, object], limits: Limits | None = None) -> str:
    """The template's text for `values`, within `limits`.

    Raises:
        InputError: the template refuses the conversation, or a value is not plain data.
        ModelError: the template fails or exceeds the limits.
    """
    try:
        known = {name: chat_limits.plain(value, name) for name, value in values.items()}
    except (TypeError, RecursionError) as error:
        raise InputError(f"a chat template takes only JSON values, but {error}") from error
    with bounded(limits):
        return _contained(lambda: template.render(known))


def _contained(work: Callable[[], T]) -> T:
    try:
        return work()
    except OverclockError:
        raise
    except RefusedError as error:
        raise InputError(f"the model's chat template refuses this: {error}") from error
    except Exception as error:  # a template is foreign code: anything can happen
        reason = str(error).rstrip(".") or type(error).__name__
        raise ModelError(f"the model's chat template fails: {reason}") from error


class _Generation(Extension):
    """``{% generation %}`` marks what the model said, for training; here it changes nothing."""

    tags = frozenset(("generation",))  # type: ignore[assignment]

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("//", "%", "+", "*", "-", "/", "**"))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        Guards().visit(tree)
        tree.set_environment(self)
        return tree

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        """Only listed methods of Python's own types; of other objects what the sandbox allows."""
        for kind, allowed in _METHODS.items():
            if isinstance(obj, kind) and attr not in allowed:
                return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: object) -> Callable[..., str] | None:
        """`str.format` with Jinja's care for attributes and ours for size."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def bounded_format(*args: object, **values: object) -> str:
            chat_limits.allow_format(getattr(value, "__self__", ""), [*args, values])
            return wrapped(*args, **values)

        return bounded_format

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """An operator, refused if its result would be too large."""
        if operator in _FORESEEN:
            _FORESEEN[operator](left, right)
        return made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: object, *args: object, **values: object) -> object:
        """A call, counted, and refused if its result would be too large."""
        budget().step()
        text, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(text, str) and name == "join":
            (items,) = args
            return made(chat_limits.joined(text, chat_limits.iterable(items)))
        if isinstance(text, str):
            _foresee_method(text, name, *args, **values)
        return made(super().call(context, function, *args, **values))


def _foresee_method(text: str, name: str, *args: object, sep: object = None, **_: object) -> None:
    """Refuse a method of text whose result would be too large; wrong arguments fail later."""
    match name, args:
        case "replace", (str(old), str(new), *_):
            chat_limits.allow_replace(text, old, new)
        case (("split" | "rsplit"), (str(separator), *_)):
            chat_limits.allow_split(text, separator)
        case (("split" | "rsplit" | "splitlines"), _):
            chat_limits.allow_split(text, sep if isinstance(sep, str) else None)


@cache
def _environment() -> _Sandbox:
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # nothing of a stranger's is evaluated while compiling
        extensions=[_Generation, LoopControlExtension],
    )
    environment.filters = FILTERS_ALLOWED | GUARDS
    environment.tests = dict(TESTS_ALLOWED)
    environment.globals = dict(GLOBALS)
    return environment
