"""The fields of a JSON object, read one by one; what nobody has read is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite
from typing import TypeGuard

from overclock.openai.errors import ApiError

_SHOWN = 40


class Fields:
    """A JSON object that came from outside. Every reader takes its field; null is the same as none.

    All readers raise ApiError, which names the field by its path, for what the field must not be.
    """

    def __init__(self, value: object, path: str = "") -> None:
        """`path` leads to the object from the body; empty for the body itself."""
        if not isinstance(value, Mapping):
            raise ApiError(
                f"{path or 'the body'} is {shown(value)}; it must be an object", param=path or None
            )
        self._left = dict(value)
        self._path = path

    def path(self, name: str) -> str:
        """Where a field is, from the body on."""
        return f"{self._path}.{name}" if self._path else name

    def wrong(self, name: str, value: object, wanted: str) -> ApiError:
        """The complaint about a field."""
        path = self.path(name)
        return ApiError(f"{path} is {shown(value)}; it must be {wanted}", param=path)

    def take(self, name: str) -> object:
        """The field as it is; None if there is none."""
        return self._left.pop(name, None)

    def has(self, name: str) -> bool:
        """Whether the field is there, not read yet, and not null."""
        return self._left.get(name) is not None

    def text(self, name: str) -> str | None:
        """A text."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, value, "text")
        return value

    def needed_text(self, name: str) -> str:
        """A text that must be there."""
        value = self.take(name)
        if not isinstance(value, str):
            raise self.wrong(name, value, "text")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`."""
        value = self.take(name)
        if value is None:
            return None
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str) -> float | None:
        """A number."""
        value = self.take(name)
        if value is None:
            return None
        if not is_number(value):
            raise self.wrong(name, value, "a number")
        return float(value)

    def one_of(self, name: str, values: Collection[str]) -> str | None:
        """One of a few words."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in values:
            raise self.wrong(name, value, f"one of {', '.join(values)}")
        return value

    def items(self, name: str) -> list[object] | None:
        """A list."""
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            raise self.wrong(name, value, "a list")
        return value

    def wholes(self, name: str) -> list[int] | None:
        """A list of whole numbers."""
        values = self.items(name)
        if values is None:
            return None
        found = [value for value in values if type(value) is int]
        if len(found) < len(values):
            raise self.wrong(name, values, "a list of whole numbers")
        return found

    def object(self, name: str) -> Fields | None:
        """The fields of an object inside."""
        value = self.take(name)
        return None if value is None else Fields(value, self.path(name))

    def ignore(self, *names: str) -> None:
        """Let fields be there that change nothing here."""
        for name in names:
            self._left.pop(name, None)

    def refuse(self, *names: str) -> None:
        """Fields of OpenAI's API that cannot be honoured here; null is as if they were not there.

        An empty list or object asks for nothing either.
        """
        for name in names:
            value = self.take(name)
            if value is not None and value != [] and value != {}:
                raise ApiError(
                    f"{self.path(name)} is not supported here; leave it out",
                    param=self.path(name),
                    code="unsupported_parameter",
                )

    def done(self) -> None:
        """Refuse what nobody has read."""
        for name in self._left:
            raise ApiError(
                f"there is no field {shown(self.path(name))}; leave it out, or mend its name",
                param=self.path(name),
                code="unknown_parameter",
            )


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number that a float can hold."""
    if type(value) is int:
        return abs(value) < 1 << 1000
    return isinstance(value, float) and isfinite(value)


def shown(value: object) -> str:
    """A JSON value as an error tells it, in a few words."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…")
        case list():
            return "a list" if value else "an empty list"
        case Mapping():
            return "an object"
        case int() if abs(value) >= 1 << 64:
            return "a very large number"
        case _:
            return repr(value)
