"""What a chat template may use up: time, steps and text.

Every construct that can repeat or grow reports here before or as it does: loops and calls as
*steps*, strings and lists as *text* (characters made, also those thrown away again). The bound in
force is a context variable, so any number of threads can render the same template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from overclock.errors import ModelError

T = TypeVar("T")

_ITEM = 16  # what an item of a list counts, in characters: about its memory
_NODES = 1_000_000  # items in a nested value, shared parts counted as often as they appear
_BITS = 4096  # of a whole number
_WIDE = re.compile(r"\d{5}|[*]|:[^{}]*\{")  # widths in format strings that are huge or computed
_WIDTH = 10_000  # no width that passes is above this


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one rendering: wall time, loop iterations and calls, characters made."""

    seconds: float = 2.0
    steps: int = 1_000_000
    text: int = 32_000_000


class Budget:
    """What is left of the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._deadline = monotonic() + limits.seconds
        self._steps = limits.steps
        self._text = limits.text

    def step(self) -> None:
        """Count one iteration, call or output."""
        self._steps -= 1
        if self._steps < 0:
            raise _exceeded(f"{self._limits.steps:,} steps")
        if monotonic() > self._deadline:
            raise _exceeded(f"{self._limits.seconds:g} seconds")

    def make(self, characters: int) -> None:
        """Count characters that are about to be made or just were."""
        self._text -= characters
        if self._text < 0:
            raise _exceeded(f"{self._limits.text:,} characters of text")

    def allow(self, characters: int) -> None:
        """Refuse characters that would be too many, without counting them yet."""
        if characters > self._text:
            self.make(characters)


def _exceeded(what: str) -> ModelError:
    return ModelError(
        f"the model's chat template needs more than {what}; it is damaged or hostile, "
        "or the conversation is too long"
    )


_current: ContextVar[Budget] = ContextVar("overclock chat template budget")


def budget() -> Budget:
    """The budget of the rendering that this code is part of."""
    return _current.get()


@contextmanager
def bounded(limits: Limits | None) -> Iterator[None]:
    """Hold the code inside to `limits` (None: the usual ones)."""
    token = _current.set(Budget(limits or Limits()))
    try:
        yield
    finally:
        _current.reset(token)


def steps(items: Iterable[T]) -> Iterator[T]:
    """The items, each counted as a step."""
    count = budget().step
    for item in items:
        count()
        yield item


def made(value: T) -> T:
    """`value`, once it is known to be of bearable size; it counts as a step and as its text."""
    left = budget()
    left.step()
    if isinstance(value, str):
        left.make(len(value))
    elif isinstance(value, list | tuple | dict | set):
        left.make(_ITEM * len(value))
        left.allow(weight(value))
    elif isinstance(value, int) and value.bit_length() > _BITS:
        raise _exceeded(f"{_BITS} bits in a number")
    return value


def weight(value: object) -> int:
    """Characters of `value` written out, about; parts that it shares count each time.

    Doubling a list in itself fifty times takes no memory, but printing or comparing it would
    never end: this walk stops early instead.
    """
    total = nodes = 0
    waiting = [value]
    while waiting:
        nodes += 1
        if nodes > _NODES:
            raise _exceeded(f"{_NODES:,} items in one value")
        item = waiting.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list | tuple | set):
            waiting += item
    return total + nodes


# Operations whose result can be far larger than what goes in, refused before they start.


def allow_product(left: object, right: object) -> None:
    """Before ``left * right``: a repetition or a product of numbers."""
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _BITS:
            raise _exceeded(f"{_BITS} bits in a number")
    elif isinstance(left, Sized) and isinstance(right, int):
        _allow_repetition(left, right)
    elif isinstance(left, int) and isinstance(right, Sized):
        _allow_repetition(right, left)


def _allow_repetition(value: Sized, times: int) -> None:
    size = len(value) if isinstance(value, str) else _ITEM * len(value)
    budget().allow(size * max(times, 0))


def allow_power(base: object, exponent: object) -> None:
    """Before ``base ** exponent``."""
    if isinstance(base, int) and isinstance(exponent, int):
        bits = base.bit_length() * abs(exponent)
        if bits > _BITS:
            raise _exceeded(f"{_BITS} bits in a number")


def allow_sum(left: object, right: object) -> None:
    """Before ``left + right``: two strings or lists become one."""
    for part in (left, right):
        if isinstance(part, str):
            budget().allow(len(part))


def allow_format(template: object, values: object) -> None:
    """Before ``template % values`` or ``template.format(…)``; a remainder is always allowed."""
    if not isinstance(template, str):
        return
    if _WIDE.search(template):
        raise ModelError("the model's chat template formats text to a huge or computed width")
    places = template.count("%") + template.count("{")
    budget().allow(len(template) + places * (weight(values) + _WIDTH))


def allow_replace(text: str, old: str, new: str) -> None:
    """Before ``text.replace(old, new)``."""
    budget().allow(len(text) + text.count(old) * len(new))


def allow_split(text: str, separator: str | None) -> None:
    """Before ``text.split(separator)``; None splits at blanks."""
    pieces = text.count(separator) if separator else len(text) // 2
    budget().allow(_ITEM * pieces)


def iterable(value: object) -> Iterable[object]:
    """`value`, which must be something to go through."""
    if isinstance(value, Iterable):
        return value
    raise TypeError(f"a {type(value).__name__} has no items")


def joined(separator: str, items: Iterable[object]) -> str:
    """``separator.join(items)`` within the budget; each item is a step."""
    left = budget()
    parts: list[str] = []
    for item in steps(items):
        part = item if isinstance(item, str) else str(made(item))
        left.allow(len(part) + len(separator))
        left.make(len(separator))
        parts.append(part)
    left.allow(sum(map(len, parts)))
    return separator.join(parts)


def plain(value: object, where: str) -> object:
    """A copy of a caller's value in JSON's types only: templates must not touch other objects."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    raise TypeError(f"{where} holds {value!r}")
