"""A small model that guesses for a large one (speculative decoding, Leviathan et al. 2023).

It has as many KV pages as the large one and uses the same numbers: what is shared, copied or given
back there is so here, with nothing to keep account of. It runs every batch that the large one runs,
for its KV alone, and then, for those who want guesses, one token after the other.

Its guesses are its likeliest tokens, however the request chooses its own: a guess only has to agree
with the choice, which is made from the large model's logits as ever.
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from overclock.clock.sequence import Sequence
from overclock.clock.time import Time
from overclock.errors import MachineError
from overclock.machine.machine import Batch, Machine
from overclock.program.program import PAGE_TOKENS

NEWS = 0.1
"""Weight of a new observation in a running mean."""

NO_ROWS: NDArray[np.int32] = np.zeros(0, np.int32)


class DraftModel:
    """A loaded machine with the draft model's program.

    seconds: what one of its ticks takes, a running mean; None before the first
    """

    def __init__(self, machine: Machine, time: Time) -> None:
        self._machine = machine
        self._time = time
        self.seconds: float | None = None
        self.has_failed = False

    def follow(self, batch: Batch) -> None:
        """Compute the KV of a batch that the large model has run."""
        if not self.has_failed:
            self._run(replace(batch, output_rows=NO_ROWS, adapters=None))

    def copy_page(self, source: int, target: int) -> None:
        """A page became another one's beginning."""
        self._machine.copy_pages([source], [target])

    def draft(
        self, sequences: Row[Sequence], table: NDArray[np.int32], count: int
    ) -> list[list[int]]:
        """The next `count` tokens that each request may have, given the table of their pages.

        Its pages must have room for `count` tokens behind those computed. A machine that fails
        costs the guesses, from then on, and nothing else.
        """
        which = np.array([sequence.slot for sequence in sequences], np.int32)
        contexts = np.array([sequence.computed for sequence in sequences], np.int32)
        tokens = np.array([sequence.tokens[-1] for sequence in sequences], np.int32)
        most = -(-int(contexts.max() + count) // PAGE_TOKENS)
        pages = np.ascontiguousarray(table[which, :most])
        starts = np.arange(len(which) + 1, dtype=np.int32)
        guesses: list[list[int]] = [[] for _ in sequences]
        for _ in range(count):
            batch = Batch(
                token_ids=tokens,
                starts=starts,
                contexts=contexts,
                pages=pages,
                output_rows=starts[:-1],
                output="logits",
            )
            started = self._time.now()
            logits = self._run(batch)
            if logits is None:
                return [[] for _ in sequences]
            self._observe(self._time.now() - started)
            tokens = logits.argmax(axis=1).astype(np.int32)
            contexts = contexts + np.int32(1)
            for row, token in zip(guesses, tokens.tolist(), strict=True):
                row.append(token)
        return guesses

    def _run(self, batch: Batch) -> NDArray[np.float32] | None:
        try:
            return self._machine.run(batch)
        except MachineError:
            self.has_failed = True
            return None

    def _observe(self, took: float) -> None:
        self.seconds = took if self.seconds is None else self.seconds + NEWS * (took - self.seconds)
