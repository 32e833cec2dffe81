"""The batch of a tick: the tokens of all its requests laid end to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overclock.clock.request import Encode
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
        self._last: Work | None = None
        self._version = 0  # of the roster when it was made

    def __call__(self, plain: list[Sequence], parts: list[Part]) -> Work:
        """The work of a tick: `plain` requests bring one token each, `parts` more."""
        last = self._last
        if last is not None and not parts and self._version == self._roster.version:
            np.add(last.batch.contexts, 1, out=last.batch.contexts)
            # A request may have had its next page for guesses, so that none came now.
            if int(last.batch.contexts.max()) < PAGE_TOKENS * last.batch.pages.shape[1]:
                last.batch.token_ids[:] = [each.tokens[-1] for each in plain]
                return last
        work = self._anew(plain, parts)
        self._last = None if parts else work
        self._version = self._roster.version
        return work

    def _anew(self, plain: list[Sequence], parts: list[Part]) -> Work:
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
        batch = Batch(
            token_ids=np.array(tokens, np.int32),
            starts=starts,
            contexts=contexts,
            pages=np.ascontiguousarray(self._roster.slots.table[slots, :most]),
            output_rows=np.array(outputs, np.int32),
            output="logits",
            adapters=_adapters(sequences),
        )
        return Work(batch, plain, parts)


def _adapters(sequences: list[Sequence]) -> NDArray[np.int32] | None:
    """The adapter of each request; None if nobody has one."""
    numbers = [adapter_of(each) for each in sequences]
    return np.array(numbers, np.int32) if any(numbers) else None


def adapter_of(sequence: Sequence) -> int:
    """The machine's number of a request's adapter, 0 for none."""
    request = sequence.ticket.request
    return 0 if isinstance(request, Encode) else request.adapter
