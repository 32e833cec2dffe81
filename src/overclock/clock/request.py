"""What can be asked of a clock, checked already."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.clock.sampling import Sampling
from overclock.errors import OverclockError
from overclock.model.detokenizer import DetokenizerStream

if TYPE_CHECKING:
    from overclock.clock.grammar import Constraint

LogitsProcessor: TypeAlias = Callable[[Sequence[int], NDArray[np.float32]], NDArray[np.float32]]
"""From the tokens so far (prompt and answer) and the logits ``f32[V]`` of the next one, which it
may change in place, to the logits to choose by; logprobs are then those of what it returns."""

Speculation = Literal["auto", "prompt", "draft", "off"]
"""Where drafts come from: text that repeats (prompt), the draft model, either, or nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Continue `token_ids`, at least one token.

    max_tokens: most tokens of the answer; the prompt and all of them but the last fit the context
    stops: strings that end the answer and are no part of it
    ends: tokens that end it; they are no part of its text
    detokenizer: a fresh stream; no text is made without one
    constraint: what the text must be like; a fresh one
    processor: changes the logits before a token is chosen
    adapter: number of the machine's adapter, 0 for none
    world: requests only share prefixes within one
    reuse: take from the KV pages what is there of the prompt
    prompt_logprobs: None, or how many likeliest tokens to name for each token of the prompt
    priority: higher runs first; waiting raises it
    deadline_s: seconds from now; None for any time
    stream: give pieces as they come, not only the last
    tokenize_s: seconds that it took to make its tokens, for the account
    """

    token_ids: list[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stops: tuple[str, ...] = ()
    ends: frozenset[int] = frozenset()
    detokenizer: DetokenizerStream | None = None
    constraint: Constraint | None = None
    processor: LogitsProcessor | None = None
    adapter: int = 0
    world: Hashable = None
    reuse: bool = True
    prompt_logprobs: int | None = None
    speculation: Speculation = "auto"
    priority: int = 0
    deadline_s: float | None = None
    stream: bool = False
    tokenize_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The logits of the tokens of `token_ids` from number `first` on, ``f32[n, V]``.

    What is before may come from KV pages that hold it.
    """

    token_ids: list[int]
    first: int = 0
    adapter: int = 0
    world: Hashable = None
    priority: int = 0
    deadline_s: float | None = None
    tokenize_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """A program's output for a whole text: a vector, class scores, or a row for each token.

    rows: which rows of the text an output over selected rows is wanted for
    """

    token_ids: list[int]
    output: str
    rows: tuple[int, ...] = ()
    priority: int = 0
    deadline_s: float | None = None
    tokenize_s: float = 0.0


Request: TypeAlias = Generate | Score | Encode


@dataclass(frozen=True, slots=True)
class Encoded:
    """What `Encode` or `Score` asked for, ``f32[rows, columns]``, or why there is nothing."""

    values: NDArray[np.float32] | None
    error: OverclockError | None = None
