"""The batch of a tick: the tokens of all its requests laid end to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overclock.clock.roster import Roster
from overclock.clock.sequence import Sequence
from overclock.clock.work import Part, Work
from overclock.machine.machine import Batch
from overclock.program.program import PAGE_TOKENS


class Layout:
    """Lays batches out.

    Most ticks have the same requests in the same pages as the one before, a token further. For
    those the last batch is changed in place: the weights that a tick streams through the caches
    drive everything else out of them, so what is not touched is worth more than it looks.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._last: Batch | None = None
        self._version = 0  # of the roster when it was made

    def __call__(self, plain: list[Sequence], parts: list[Part]) -> Work:
        """The work of a tick: `plain` requests bring one token each, `parts` more."""
        last = self._last
        if last is not None and not parts and self._version == self._roster.version:
            np.add(last.contexts, 1, out=last.contexts)
            # A request may have had its next page for guesses, so that none came now.
            if int(last.contexts.max()) < PAGE_TOKENS * last.pages.shape[1]:
                last.token_ids[:] = [each.tokens[-1] for each in plain]
                return Work(last, plain, [])
        batch = self._anew(plain, parts)
        self._last = None if parts else batch
        self._version = self._roster.version
        return Work(batch, plain, parts)

    def _anew(self, plain: list[Sequence], parts: list[Part]) -> Batch:
        sequences = [*plain, *(part.sequence for part in parts)]
        starts = np.cumsum([0, *[1] * len(plain), *(part.count for part in parts)], dtype=np.int32)
        tokens = [each.tokens[-1] for each in plain]
        outputs = list(range(len(plain)))
        for part in parts:
            at = part.sequence.computed
            part.first = len(outputs)
            tokens += part.sequence.tokens[at : at + part.count]
            tokens += part.drafts
            outputs += range(len(tokens) - part.outputs, len(tokens))
        contexts = np.array([each.computed for each in sequences], np.int32)
        most = -(-int((contexts + np.diff(starts)).max()) // PAGE_TOKENS)
        slots = np.array([each.slot for each in sequences], np.int32)
        return Batch(
            token_ids=np.array(tokens, np.int32),
            starts=starts,
            contexts=contexts,
            pages=np.ascontiguousarray(self._roster.slots.table[slots, :most]),
            output_rows=np.array(outputs, np.int32),
            output="logits",
            adapters=_adapters(sequences),
        )


def _adapters(sequences: list[Sequence]) -> NDArray[np.int32] | None:
    """The adapter of each request; None if nobody has one."""
    numbers = [each.adapter for each in sequences]
    return np.array(numbers, np.int32) if any(numbers) else None
