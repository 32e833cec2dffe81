"""One sequence: the tokens that stand in its KV pages, and the logits of what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from overclock.machine.machine import Batch, Machine

TICK_TOKENS = 512
"""Most tokens of a prompt that one run of the machine takes."""

LOGITS_BYTES = 64 << 20
"""Most memory that the logits of one run may take."""


class TokenSequence:
    """The only sequence of a machine: it owns all pages.

    The arrays of a one-token batch are made once and changed in place: a tick of one token costs
    a few microseconds of Python.
    """

    def __init__(self, machine: Machine, pages: int, vocabulary: int) -> None:
        self._machine = machine
        self._pages = np.arange(pages, dtype=np.int32)[None, :]
        self._rows = max(1, min(TICK_TOKENS, LOGITS_BYTES // (4 * vocabulary)))
        self._next = self._batch([0], 0, [0])
        self.tokens: list[int] = []  # what the KV pages hold, in order

    def keep(self, count: int) -> None:
        """Forget all tokens but the first `count`."""
        del self.tokens[count:]

    def shared(self, ids: Sequence[int]) -> int:
        """How many tokens at the start of `ids` stand in the pages already."""
        count = 0
        for ours, theirs in zip(self.tokens, ids, strict=False):
            if ours != theirs:
                break
            count += 1
        return count

    def extend(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Run `ids` (at least one) behind what is there; the last one's logits, ``f32[V]``.

        The array is valid until the next run.
        """
        last = (len(ids) - 1) // TICK_TOKENS * TICK_TOKENS
        for start in range(0, last, TICK_TOKENS):
            self._run(ids[start : start + TICK_TOKENS], [])
        rest = ids[last:]
        logits: NDArray[np.float32] = self._run(rest, [len(rest) - 1])[0]
        return logits

    def step(self, token: int) -> NDArray[np.float32]:
        """Run one token; its logits, ``f32[V]``, valid until the next run."""
        self._next.token_ids[0] = token
        self._next.contexts[0] = len(self.tokens)
        logits: NDArray[np.float32] = self._machine.run(self._next)[0]
        self.tokens.append(token)
        return logits

    def score(self, ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Run `ids`; the logits of every one, in blocks ``f32[n, V]`` valid until the next."""
        for start in range(0, len(ids), self._rows):
            piece = ids[start : start + self._rows]
            yield self._run(piece, range(len(piece)))

    def _run(self, ids: Sequence[int], rows: Sequence[int]) -> NDArray[np.float32]:
        logits = self._machine.run(self._batch(ids, len(self.tokens), rows))
        self.tokens.extend(ids)
        return logits

    def _batch(self, ids: Sequence[int], context: int, rows: Sequence[int]) -> Batch:
        return Batch(
            token_ids=np.array(ids, np.int32),
            starts=np.array([0, len(ids)], np.int32),
            contexts=np.array([context], np.int32),
            pages=self._pages,
            output_rows=np.array(rows, np.int32),
            output="logits",
        )
