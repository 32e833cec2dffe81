"""The filters and functions that chat templates may use, with bounds on what they make.

What templates do not need is left out: Jinja's other filters are made for wide tables and HTML,
and some let one short line ask for gigabytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from typing import Literal, NoReturn, ParamSpec, TypeVar, cast

from jinja2 import TemplateError, pass_environment
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS, do_indent, do_round, do_sort, do_sum, make_attrgetter
from jinja2.tests import TESTS
from jinja2.utils import Cycler, Joiner, Namespace

from overclock.errors import ModelError
from overclock.model import chat_limits
from overclock.model.chat_limits import budget, made

P = ParamSpec("P")
R = TypeVar("R")

_RANGE = 1_000_000
_TIME_FORMAT = re.compile(r"(?:%[-#]?[A-Za-z%]|[^%]){0,100}")
_PLACES = 20  # of a rounded number


class RefusedError(TemplateError):
    """The template called `raise_exception`."""


# Functions


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > _RANGE:
        raise ModelError(f"the model's chat template counts to more than {_RANGE:,}")
    return numbers


def _raise_exception(message: object) -> NoReturn:
    raise RefusedError(str(made(message)))


def _strftime_now(format: str) -> str:
    if not _TIME_FORMAT.fullmatch(format):
        raise SecurityError("the time format is too long or too wide")
    return datetime.now().astimezone().strftime(format)


class _Namespace(Namespace):
    """Jinja's namespace, without names that reach into Python's objects."""

    def __setitem__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace cannot have the name {name!r}")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"  # namespaces can hold each other: writing them out might never end


def _namespace(*args: Mapping[str, object], **values: object) -> _Namespace:
    space = _Namespace()
    for name, value in dict(*args, **values).items():
        space[name] = value
    return space


def _dict(*args: Mapping[str, object], **values: object) -> dict[str, object]:
    return dict(*args, **values)


# Filters


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and len(str(indent)) > 2:
        raise SecurityError("the indentation is too wide")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _list(items: Iterable[object]) -> list[object]:
    return list(chat_limits.steps(items))


@pass_environment
def _join(
    environment: Environment,
    items: Iterable[object],
    d: str = "",
    attribute: str | int | None = None,
) -> str:
    if attribute is not None:
        items = map(make_attrgetter(environment, attribute), items)
    return chat_limits.joined(d, items)


@pass_environment
def _sort(
    environment: Environment,
    items: Iterable[object],
    reverse: bool = False,
    case_sensitive: bool = False,
    attribute: str | int | None = None,
) -> list[object]:
    return do_sort(environment, _list(items), reverse, case_sensitive, attribute)


@pass_environment
def _sum(
    environment: Environment,
    items: Iterable[float],
    attribute: str | int | None = None,
    start: float = 0,
) -> object:
    if not isinstance(start, int | float):
        raise SecurityError("only numbers are summed")
    return do_sum(environment, chat_limits.steps(items), attribute, start)


def _replace(text: object, old: str, new: str, count: int | None = None) -> str:
    chat_limits.allow_replace(str(text), old, new)
    return str(text).replace(old, new, -1 if count is None else count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    size = len(width) if isinstance(width, str) else width
    budget().allow(len(text) + (len(text.splitlines()) + 1) * size)
    return do_indent(text, width, first, blank)


def _format(text: str, *args: object, **values: object) -> str:
    chat_limits.allow_format(text, [*args, values])
    return text % (values or args)


def _round(
    value: float, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common"
) -> float:
    if abs(precision) > _PLACES:
        raise SecurityError(f"numbers are rounded to {_PLACES} places at most")
    return do_round(value, precision, method)


def _counted(function: Callable[P, R]) -> Callable[P, R]:
    """A filter or test that counts as a step and whose result counts as its text."""

    @wraps(function)
    def counted(*args: P.args, **kwargs: P.kwargs) -> R:
        budget().step()
        return made(function(*args, **kwargs))

    return counted


_USUAL = """
    abs capitalize count d default dictsort e escape first float int items last length lower map
    max min reject rejectattr reverse safe select selectattr string title trim unique upper
"""
_OWN: dict[str, Callable[..., object]] = {
    "format": _format,
    "indent": _indent,
    "join": _join,
    "list": _list,
    "replace": _replace,
    "round": _round,
    "sort": _sort,
    "sum": _sum,
    "tojson": _tojson,
}

_ALL: dict[str, Callable[..., object]] = {
    **{name: FILTERS[name] for name in _USUAL.split()},
    **_OWN,
}

FILTERS_ALLOWED: dict[str, Callable[..., object]] = {
    name: _counted(function) for name, function in _ALL.items()
}
TESTS_ALLOWED: dict[str, Callable[..., object]] = {
    name: _counted(cast("Callable[..., object]", test)) for name, test in TESTS.items()
}
GLOBALS: dict[str, object] = {
    "cycler": Cycler,
    "dict": _dict,
    "joiner": Joiner,
    "namespace": _namespace,
    "raise_exception": _raise_exception,
    "range": _range,
    "strftime_now": _strftime_now,
}
