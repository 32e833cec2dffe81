"""Which tokens to guess ahead in the next tick: only as many as pay.

A tick of more rows takes longer. One more guess for a request pays if the chance that it comes
true, at the worth of a token now (seconds of the tick by the tokens it will bring), is more than
the seconds that its row costs. Both sides are measured as the clock runs: rates by each request,
costs by the pace. Guesses change when tokens are computed and never which: every one of them is
chosen from its own logits, in order, and the first that was guessed wrong ends the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.clock.answer import Answer
from overclock.clock.draft_model import NEWS, DraftModel
from overclock.clock.drafts import PromptLookup
from overclock.clock.pace import Pace
from overclock.clock.sequence import Sequence, answer_of

FIRST_COST = 0.25
"""Of a tick: what the draft model is taken to need for one token before it has run."""

PATIENCE = 64
"""Ticks after which a draft model that did not pay is tried once more."""

Grow: TypeAlias = Callable[[Sequence, int], bool]

MARGIN = 1.15
"""A guess must be worth so many times what it costs, since both are estimates."""


class Guesser:
    """Finds guesses for the requests that generate."""

    def __init__(
        self, pace: Pace, most: int, table: NDArray[np.int32], model: DraftModel | None = None
    ) -> None:
        """`most` guesses for a request and tick, 0 for none at all; `model` is another source.

        table: ``int32[streams, pages]`` of the requests' KV pages
        """
        self._table = table
        self._pace = pace
        self._most = most
        self._model = model
        self._rest = 0  # ticks since the model was last asked

    def guesses(self, generating: list[Sequence]) -> dict[Sequence, list[int]]:
        """Guesses worth running, for those requests that have any."""
        if not self._most or not generating:
            return {}
        rows = len(generating)
        seconds = self._pace.seconds(rows)
        if seconds is None:
            return {}
        cost = self._pace.row_cost(rows, min(self._most, 8))
        chosen: dict[Sequence, list[int]] = {}
        tokens = float(rows)
        for sequence in generating:
            drafts, gain = self._worthwhile(sequence, seconds / tokens, cost)
            if drafts:
                chosen[sequence] = drafts
                tokens += gain
                seconds += cost * len(drafts)
        return chosen

    def from_model(
        self, generating: list[Sequence], known: dict[Sequence, list[int]], grow: Grow
    ) -> dict[Sequence, list[int]]:
        """Guesses of the draft model for those that have none in `known`, if they pay.

        grow: gets a request pages for so many tokens
        """
        if self._model is None or self._model.has_failed:
            return {}
        wanting = [each for each in generating if each not in known and _wants_model(each)]
        count = self._worth_asking(wanting, len(generating))
        wanting = [each for each in wanting if 0 < count <= _room(each) and grow(each, 1 + count)]
        if not wanting:
            return {}
        found: dict[Sequence, list[int]] = {}
        for sequence, guesses in zip(
            wanting, self._model.draft(wanting, self._table, count), strict=True
        ):
            if guesses:
                answer_of(sequence).asked_model = True
                found[sequence] = guesses
        return found

    def _worth_asking(self, wanting: list[Sequence], rows: int) -> int:
        """How many guesses of the model bring the most tokens a second; 0 if none is better.

        Now and then one is asked for in any case, to see whether the model has become better.
        """
        base = self._pace.seconds(rows)
        if self._model is None or not wanting or base is None or not self._most:
            return 0
        each = FIRST_COST * base if self._model.seconds is None else self._model.seconds
        row = self._pace.row_cost(rows, len(wanting))
        rate = sum(answer_of(sequence).model_rate for sequence in wanting) / len(wanting)
        best, most = 0, rows / base * MARGIN
        tokens, seconds, chance = float(rows), base, 1.0
        for count in range(1, self._most + 1):
            chance *= rate
            tokens += len(wanting) * chance
            seconds += each + len(wanting) * row
            if tokens / seconds > most:
                best, most = count, tokens / seconds
        self._rest = 0 if best else self._rest + 1
        if self._rest >= PATIENCE:
            self._rest, best = 0, 1
        return best

    def _worthwhile(self, sequence: Sequence, worth: float, cost: float) -> tuple[list[int], float]:
        """The guesses for one request that pay, and how many are expected to come true.

        worth: seconds that a token is worth; cost: seconds that a row costs
        """
        answer = answer_of(sequence)
        room = min(self._most, _room(sequence))
        if answer.request.speculation == "off":
            return [], 0.0
        forced = _forced(answer, room)
        if forced:
            return forced, float(len(forced))
        lookup = answer.lookup
        if lookup is None or not lookup.has_guess or room < 1:
            return [], 0.0
        count, chance, gain = 0, 1.0, 0.0
        while count < room:
            chance *= lookup.rate(count)
            if chance * worth < cost * MARGIN:
                break
            gain += chance
            count += 1
        return (lookup.guess(count), gain) if count else ([], 0.0)


def start_lookup(sequence: Sequence) -> None:
    """Begin to follow a request's tokens, if it wants guesses."""
    answer = sequence.answer
    if answer is not None and answer.request.speculation in ("auto", "prompt"):
        answer.lookup = PromptLookup(sequence.tokens)


def note(answer: Answer, tokens: Iterable[int]) -> None:
    """Tokens that came."""
    if answer.lookup is not None:
        for token in tokens:
            answer.lookup.push(token)


def count_guesses(answer: Answer, guesses: list[int], came_true: int) -> None:
    """Note how many of the guesses came true."""
    answer.drafted += len(guesses)
    answer.accepted += came_true
    if answer.asked_model:
        answer.asked_model = False
        tries = came_true + (came_true < len(guesses))
        for hit in range(tries):
            answer.model_rate += NEWS * ((hit < came_true) - answer.model_rate)


def _wants_model(sequence: Sequence) -> bool:
    return answer_of(sequence).request.speculation in ("auto", "draft") and _room(sequence) > 0


def _room(sequence: Sequence) -> int:
    """Guesses that a request has room for: the token behind them is chosen in any case."""
    answer = answer_of(sequence)
    return answer.request.max_tokens - len(answer.tokens) - 1


def _forced(answer: Answer, room: int) -> list[int]:
    """What a grammar leaves no choice about comes true for certain."""
    constraint = answer.request.constraint
    return constraint.forced()[:room] if constraint is not None and room > 0 else []
