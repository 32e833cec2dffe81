"""A load that was recorded: a file of requests, one JSON object a line, or an account of a clock.

A line is ``{"at": 0.5, "prompt_tokens": 200, "output_tokens": 64}``, with ``"prefix"`` and
``"prefix_tokens"`` for a beginning in common, ``"priority"`` and ``"deadline"`` (seconds) as one
likes. Times rise from line to line. Of an account (`overclock trace --json`), the requests are
taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from math import isfinite
from pathlib import Path
from typing import Any

from overclock.errors import InputError
from overclock.simulate.lengths import MOST_TOKENS
from overclock.simulate.workload import MOST_REQUESTS, Arrival, Source, Stream

NEEDED = ("at", "prompt_tokens", "output_tokens")
KNOWN = frozenset((*NEEDED, "prefix", "prefix_tokens", "priority", "deadline"))


@dataclass(frozen=True, slots=True)
class Recorded:
    """Requests as they came, `speed` times as fast."""

    arrivals: tuple[Arrival, ...]
    speed: float = 1.0

    @property
    def duration(self) -> float:
        """Seconds until the last one comes."""
        return self.arrivals[-1].at / self.speed

    @property
    def rate(self) -> float | None:
        """Requests a second in the mean; None if all come at once."""
        return len(self.arrivals) / self.duration if self.duration > 0 else None

    def at_rate(self, rate: float) -> Recorded:
        """The same requests, coming faster or slower. InputError if all come at once."""
        if self.rate is None:
            raise InputError("all requests of the file come at once, so they have no rate")
        return replace(self, speed=self.speed * rate / self.rate)

    def within(self, duration: float) -> Recorded:
        """Those of the first seconds; the first one at least."""
        kept = tuple(each for each in self.arrivals if each.at <= duration * self.speed)
        return replace(self, arrivals=kept or self.arrivals[:1])

    def requests(self) -> Iterator[Arrival]:
        """The requests without end: after the last one comes the first."""
        return cycle(self.arrivals)

    def source(self) -> Source:
        """From the beginning."""
        return Stream(replace(each, at=each.at / self.speed) for each in self.arrivals)


class BadLineError(InputError):
    """A line of the file cannot be used."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}, line {line}: {what}")


def read_recorded(path: Path) -> Recorded:
    """The load of a file.

    Raises InputError, which names the file and the line, if it cannot be read or is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    account = _account(text)
    found = list(_lines(path, text) if account is None else _requests(path, account))
    if not found:
        raise InputError(f"{path} has no requests; write one JSON object a line")
    if len(found) > MOST_REQUESTS:
        raise InputError(f"{path} has more than {MOST_REQUESTS:,} requests; split it")
    return Recorded(tuple(found))


def _account(text: str) -> list[object] | None:
    """The requests of an account; None for a file of lines."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    requests = whole.get("requests") if isinstance(whole, dict) else None
    return requests if isinstance(requests, list) else None


def _lines(path: Path, text: str) -> Iterator[Arrival]:
    """The requests of a file of lines. Times count from the first one's."""
    first: float | None = None
    last = 0.0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        arrival = _arrival(_Line(path, number, line))
        if first is None:
            first = last = arrival.at
        if arrival.at < last:
            raise BadLineError(
                path, number, f"{arrival.at:g} s is before {last:g} s; sort the lines by time"
            )
        last = arrival.at
        yield replace(arrival, at=arrival.at - first)


class _Line:
    """A JSON object in a line, with its values checked as they are asked for."""

    def __init__(self, path: Path, number: int, text: str) -> None:
        self._place = path, number
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.bad(f"this is no JSON ({error}); is the file whole?") from error
        if not isinstance(values, dict):
            raise self.bad("a JSON object is wanted, with at, prompt_tokens and output_tokens")
        self.values: Mapping[str, object] = values

    def bad(self, what: str) -> BadLineError:
        return BadLineError(*self._place, what)

    def number(self, name: str, *, low: float = 0.0) -> float:
        value = self.values[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = _float(value)
            if isfinite(number) and number >= low:
                return number
        raise self.bad(f"{name} is {_short(value)}; it must be a number of {low:g} or more")

    def whole(self, name: str, low: int, high: int = MOST_TOKENS) -> int:
        value = self.values[name]
        if type(value) is not int or not low <= value <= high:
            raise self.bad(
                f"{name} is {_short(value)}; it must be a whole number of {low} to {high}"
            )
        return value


def _arrival(line: _Line) -> Arrival:
    missing = [name for name in NEEDED if name not in line.values]
    if missing:
        raise line.bad(f"{missing[0]} is missing; a request needs {', '.join(NEEDED)}")
    unknown = sorted(set(line.values) - KNOWN)
    if unknown:
        raise line.bad(f"{_short(unknown[0])} is unknown; there are {', '.join(sorted(KNOWN))}")
    prompt = line.whole("prompt_tokens", 1)
    prefix, shared = _prefix(line, prompt)
    given = line.values.get
    return Arrival(
        at=line.number("at"),
        prompt=prompt,
        output=line.whole("output_tokens", 1),
        prefix=prefix,
        prefix_tokens=shared,
        priority=0 if given("priority") is None else line.whole("priority", -1000, 1000),
        deadline_s=None if given("deadline") is None else line.number("deadline"),
    )


def _prefix(line: _Line, prompt: int) -> tuple[str | None, int]:
    name, tokens = line.values.get("prefix"), line.values.get("prefix_tokens")
    if name is None and tokens is None:
        return None, 0
    if not isinstance(name, str):
        raise line.bad(f"prefix is {_short(name)}; it must be a name, beside prefix_tokens")
    if tokens is None:
        raise line.bad("prefix_tokens is missing; say how many tokens the prefix has")
    return name, line.whole("prefix_tokens", 0, prompt)


def _requests(path: Path, requests: list[object]) -> Iterator[Arrival]:
    """The requests of an account, by when they came. Those that gained no token are left out."""
    found = [_request(path, number, each) for number, each in enumerate(requests, 1)]
    came = sorted((each for each in found if each is not None), key=lambda each: each.at)
    for each in came:
        yield replace(each, at=each.at - came[0].at)


def _request(path: Path, number: int, record: object) -> Arrival | None:
    def take(name: str, is_good: Callable[[float], bool]) -> float:
        value = record.get(name) if isinstance(record, dict) else None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and is_good(_float(value)):
            return _float(value)
        raise InputError(f"{path}, request {number}: {name} is {_short(value)}, which cannot be")

    at = take("arrived", isfinite)
    prompt = take("prompt", _is_count)
    tokens = take("tokens", lambda value: value == 0 or _is_count(value))
    return Arrival(at, int(prompt), int(tokens)) if tokens else None


def _is_count(value: float) -> bool:
    return value.is_integer() and 1 <= value <= MOST_TOKENS


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond 10^308
        return float("inf")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
