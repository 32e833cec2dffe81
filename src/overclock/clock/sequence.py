"""What a clock knows of one request from its arrival to its end."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.clock.answer import Answer
from overclock.clock.pages import Holding
from overclock.clock.request import Encode, Request, Score

World: TypeAlias = tuple[Hashable, int]
"""A salt and an adapter: requests that have the same ones share prefixes."""

OPEN_WORLD: World = (None, 0)
"""Of requests without salt and adapter."""


class Ticket:
    """A request that was handed in, and its answer if it gets one; compared by identity."""

    __slots__ = ("answer", "arrived", "request")

    def __init__(self, request: Request, answer: Answer | None, arrived: float) -> None:
        self.request = request
        self.answer = answer
        self.arrived = arrived  # seconds of the clock's time


class Sequence:
    """A request in the clock.

    tokens: those of the prompt, then of the answer; `computed` of them stand in KV pages
    key: the order of service, lowest first
    slot: its row in the tables of running requests, None while it waits
    cached: tokens of the prompt that were in KV pages when it first ran
    scored: tokens of its prompt whose logits are not wanted (any more)
    blocks: logits that it has collected
    """

    __slots__ = (
        "admitted",
        "answer",
        "blocks",
        "cached",
        "computed",
        "deadline",
        "ended",
        "first_token",
        "holding",
        "key",
        "last_token",
        "prompt",
        "scored",
        "slot",
        "ticket",
        "tokens",
    )

    def __init__(self, ticket: Ticket, key: tuple[float, int]) -> None:
        request = ticket.request
        self.ticket = ticket
        self.answer = ticket.answer
        self.tokens = list(request.token_ids)
        self.prompt = len(self.tokens)
        self.computed = 0
        self.key = key
        self.slot: int | None = None
        self.holding: Holding | None = None
        self.cached = 0
        self.scored = request.first if isinstance(request, Score) else 0
        self.blocks: list[NDArray[np.float32]] = []
        self.admitted: float | None = None
        self.first_token: float | None = None
        self.last_token: float | None = None
        self.deadline = None if request.deadline_s is None else ticket.arrived + request.deadline_s
        self.ended = False

    @property
    def adapter(self) -> int:
        """The machine's number of its adapter, 0 for none."""
        request = self.ticket.request
        return 0 if isinstance(request, Encode) else request.adapter

    @property
    def world(self) -> World:
        """Whom it shares prefixes with."""
        request = self.ticket.request
        return (None if isinstance(request, Encode) else request.world, self.adapter)

    @property
    def left(self) -> int:
        """Tokens that have to run before the next one can be chosen; 1 while it generates."""
        return len(self.tokens) - self.computed


def wants_all(sequence: Sequence) -> bool:
    """Whether the logits of every row of the prompt are wanted, or only those of the last."""
    answer = sequence.answer
    if answer is None:
        return True
    return answer.prompt_logprobs is not None and not answer.tokens


def answer_of(sequence: Sequence) -> Answer:
    """The answer of a request that gets one: every `Generate` does."""
    assert sequence.answer is not None
    return sequence.answer
