"""What a clock may be told; every value has a measured or stated reason."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from overclock.errors import InputError

MOST_STREAMS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSettings:
    """How a clock shares its machine out.

    streams: most requests that hold KV pages at once
    queue: most requests that wait; more are refused at once
    tick_tokens: most tokens of prompts in one tick (of texts, for an encoder)
    stretch: how many times as long as without them a tick may become by prompts while others
        generate; None for as long as it takes (the most tokens in all)
    share_prefixes: keep pages for requests that begin alike
    draft_tokens: most tokens that speculation adds to a request and tick; 0 switches it off
    aging_s: waiting so long counts as much as one step of priority

    Raises InputError for a value that is not possible.
    """

    streams: int = 64
    queue: int = 4096
    tick_tokens: int = 512
    stretch: float | None = 1.6
    share_prefixes: bool = True
    draft_tokens: int = 8
    aging_s: float = 10.0

    def __post_init__(self) -> None:
        _check_whole("streams", self.streams, 1, MOST_STREAMS)
        _check_whole("queue", self.queue, 0, 1 << 30)
        _check_whole("tick_tokens", self.tick_tokens, 1, 1 << 16)
        _check_whole("draft_tokens", self.draft_tokens, 0, 64)
        if self.stretch is not None and not (isfinite(self.stretch) and self.stretch > 1):
            raise InputError(f"stretch is {self.stretch!r}; it must be a number above 1")
        if not (isfinite(self.aging_s) and self.aging_s > 0):
            raise InputError(f"aging_s is {self.aging_s!r}; it must be a number of seconds above 0")


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"{name} is {value!r}; it must be a whole number of {low} to {high}")
