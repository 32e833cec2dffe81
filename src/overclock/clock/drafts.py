"""Guesses at the next tokens from text that repeats itself (prompt lookup decoding, Saxena 2023).

The last tokens are looked up in the prompt and the answer so far; what followed them there is the
guess. Whether to act on a guess is decided elsewhere, from how often guesses come true: a guess is
followed up whether or not it was run, so that finding out costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAM = 3
"""Tokens that must have occurred before in the same order."""

FIRST_HITS = (1.0, 1.6, 2.6, 3.4, 3.6)
FIRST_TRIES = (4.0, 4.0, 4.0, 4.0, 4.0)
"""Guesses that came true of those made, taken for granted at the start, by the run they are in."""

MEMORY = 64.0
"""Tries that a rate remembers; older ones fade."""


class PromptLookup:
    """Follows one request's tokens through their own past.

    `run` is how many guesses in a row have come true, and rates are kept by its size: a text that
    has agreed for ten tokens goes on agreeing far more often than one that has agreed for three.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = list(tokens)
        self._places: dict[tuple[int, ...], int] = {}  # of the token behind each n-gram
        self._next: int | None = None  # the place of the guess for the next token
        self.run = 0
        self._hits = list(FIRST_HITS)
        self._tries = list(FIRST_TRIES)
        for end in range(NGRAM, len(self._tokens)):
            self._places[tuple(self._tokens[end - NGRAM : end])] = end
        self._look_up()

    def push(self, token: int) -> None:
        """The token that came next."""
        self._check(token)
        end = len(self._tokens)
        if end >= NGRAM:
            self._places[tuple(self._tokens[end - NGRAM :])] = end
        self._tokens.append(token)
        if self._next is None:
            self._look_up()

    @property
    def has_guess(self) -> bool:
        """Whether the last tokens have occurred before."""
        return self._next is not None

    def guess(self, most: int) -> list[int]:
        """`most` tokens that may come next, or none. A text that goes in circles goes on so."""
        if self._next is None:
            return []
        found = self._tokens[self._next : self._next + most]
        period = len(self._tokens) - self._next
        for place in range(len(found), most):
            found.append(found[place - period])
        return found

    def rate(self, ahead: int) -> float:
        """How likely the guess `ahead` places on comes true if those before it have (0 to 1)."""
        kind = _kind(self.run + ahead)
        return self._hits[kind] / self._tries[kind]

    def _check(self, token: int) -> None:
        """Follow the guess up."""
        if self._next is None:
            return
        kind = _kind(self.run)
        if self._tries[kind] >= MEMORY:
            self._tries[kind] *= 0.5
            self._hits[kind] *= 0.5
        self._tries[kind] += 1
        if self._tokens[self._next] == token:
            self._hits[kind] += 1
            self.run += 1
            self._next += 1  # never past the end: the answer grows by a token as well
        else:
            self.run = 0
            self._next = None

    def _look_up(self) -> None:
        self._next = self._places.get(tuple(self._tokens[-NGRAM:]))


def _kind(run: int) -> int:
    """Runs of 0, 1, 2–3, 4–7, and 8 or more."""
    return min(run.bit_length(), len(FIRST_TRIES) - 1)
