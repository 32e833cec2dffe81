"""What an answer is: its text and tokens, why it ended, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]
"""stop: the model ended its answer, or a stop string came; length: no more tokens were allowed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens a request had; `cached_tokens` of the prompt were in KV pages already."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went. What there was nothing to measure for is None.

    load_s: seconds to load and compile the model, once for all its requests
    first_token_s: seconds from the request to its first token
    prompt_tokens_per_s: tokens of the prompt that were run, by the time until the first token
    generation_tokens_per_s: tokens after the first, by the time from the first to the last
    """

    load_s: float
    first_token_s: float
    prompt_tokens_per_s: float
    generation_tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. `token_ids` are all tokens generated, with the one that ended it."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    usage: Usage
    timing: Timing


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer as it streams; the last one carries the whole."""

    text: str
    completion: Completion | None = None
