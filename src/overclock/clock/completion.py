"""What an answer is: its text and tokens, why it ended, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from overclock.errors import OverclockError

FinishReason = Literal["stop", "length", "cancelled", "deadline", "error"]
"""stop: the model ended its answer, or a stop string or token came; length: no more tokens were
allowed; cancelled: nobody wants it any more; deadline: its time was over; error: see `error`."""


class TokenLogprob(NamedTuple):
    """A token, its log-probability, and the likeliest tokens in its place with theirs.

    Natural logarithms of the model's own probabilities, before any sampling rule.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens a request had; `cached_tokens` of the prompt were in KV pages already.

    drafted_tokens: tokens that speculation proposed; accepted_tokens: those that came true
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went. What there was nothing to measure for is None.

    load_s: seconds to load and compile the model, once for all its requests
    first_token_s: seconds from the request to its first token
    prompt_tokens_per_s: tokens of the prompt that were run, by the time until the first token
    generation_tokens_per_s: tokens after the first, by the time from the first to the last
    queue_s: seconds from the request until it was given its KV pages
    """

    load_s: float
    first_token_s: float | None
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    queue_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. `token_ids` are all tokens generated, with the one that ended it.

    logprobs: one for each token, if they were asked for
    prompt_logprobs: one for each token of the prompt but the first, if they were asked for
    error: what went wrong, if that is why it ended
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    usage: Usage
    timing: Timing
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob] | None = None
    error: OverclockError | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer as it streams; the last one carries the whole.

    `token_ids` are the tokens that came with it; some have no text yet.
    """

    text: str
    completion: Completion | None = None
    token_ids: tuple[int, ...] = ()

    def check(self) -> None:
        """Raise what made the request fail, if this is its last piece and it did."""
        if self.completion is not None and self.completion.error is not None:
            raise self.completion.error
