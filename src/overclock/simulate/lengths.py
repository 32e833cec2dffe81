"""How long prompts and answers are: distributions of whole numbers of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log, log1p, sqrt
from typing import NoReturn, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from overclock.errors import InputError

MOST_TOKENS = 1 << 24

FORMS = "fixed:64, uniform:16,256, lognormal:200,0.8 (mean and deviation by it) or any:16,16,64"


class Lengths(Protocol):
    """A distribution of numbers of tokens, each 1 at least."""

    def draw(self, rng: Generator, count: int) -> NDArray[np.int64]:
        """``i64[count]`` numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always `tokens`."""

    tokens: int

    def draw(self, rng: Generator, count: int) -> NDArray[np.int64]:
        """``i64[count]`` numbers."""
        return np.full(count, self.tokens, np.int64)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every number from `low` to `high` is as likely."""

    low: int
    high: int

    def draw(self, rng: Generator, count: int) -> NDArray[np.int64]:
        """``i64[count]`` numbers."""
        return rng.integers(self.low, self.high, count, np.int64, endpoint=True)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Many short ones and few long ones, by their `mean` and their deviation as a part of it."""

    mean: float
    cv: float

    def draw(self, rng: Generator, count: int) -> NDArray[np.int64]:
        """``i64[count]`` numbers."""
        variance = log1p(self.cv * self.cv)
        drawn = rng.lognormal(log(self.mean) - variance / 2, sqrt(variance), count)
        return np.clip(np.rint(drawn), 1, MOST_TOKENS).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Empirical:
    """One of the given numbers, all as likely."""

    tokens: tuple[int, ...]

    def draw(self, rng: Generator, count: int) -> NDArray[np.int64]:
        """``i64[count]`` numbers."""
        return np.array(self.tokens, np.int64)[rng.integers(0, len(self.tokens), count)]


def parse_lengths(text: str) -> Lengths:
    """The distribution that a text such as ``lognormal:200,0.8`` names; a number is a fixed one.

    Raises InputError, with the forms that there are, for anything else.
    """
    name, sign, values = text.strip().partition(":")
    if not sign:
        name, values = "fixed", name
    make = _MAKERS.get(name)
    numbers = _numbers(values)
    if make is None or numbers is None:
        _refuse(text)
    return make(text, numbers)


def _fixed(text: str, numbers: Sequence[float]) -> Lengths:
    if len(numbers) != 1:
        _refuse(text)
    return Fixed(_whole(text, numbers[0]))


def _uniform(text: str, numbers: Sequence[float]) -> Lengths:
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        _refuse(text)
    return Uniform(_whole(text, numbers[0]), _whole(text, numbers[1]))


def _lognormal(text: str, numbers: Sequence[float]) -> Lengths:
    if len(numbers) != 2 or not 1 <= numbers[0] <= MOST_TOKENS or not 0 <= numbers[1] <= 100:
        _refuse(text)
    return Lognormal(numbers[0], numbers[1])


def _empirical(text: str, numbers: Sequence[float]) -> Lengths:
    return Empirical(tuple(_whole(text, number) for number in numbers))


_MAKERS: Mapping[str, Callable[[str, Sequence[float]], Lengths]] = {
    "fixed": _fixed,
    "uniform": _uniform,
    "lognormal": _lognormal,
    "any": _empirical,
}


def _numbers(text: str) -> list[float] | None:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if all(map(isfinite, numbers)) else None


def _whole(text: str, number: float) -> int:
    if not (number.is_integer() and 1 <= number <= MOST_TOKENS):
        _refuse(text)
    return int(number)


def _refuse(text: str) -> NoReturn:
    raise InputError(f"{text!r} says nothing about numbers of tokens; write {FORMS}")
