"""Decode and write back for an encoder: whole texts, in the order of their arrival, no padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overclock.clock.request import Encode
from overclock.clock.roster import Roster
from overclock.clock.sequence import Sequence
from overclock.clock.work import Part, Work
from overclock.errors import MachineError
from overclock.machine.machine import Batch
from overclock.program.program import Program, Rows

OUTPUT_BYTES = 64 << 20
"""Most memory that the outputs of one tick may take, unless one text alone has more."""


class DecodeTexts:
    """Takes as many of the texts that wait as the budget holds, and one at least.

    Texts that want another output of the program than the first one are left for the next tick.
    """

    def __init__(self, roster: Roster, program: Program, tick_tokens: int) -> None:
        self._roster = roster
        self._program = program
        self._tick_tokens = tick_tokens

    def __call__(self, now: float) -> Work | None:
        """Run the stage at time `now`; None if there is nothing to do."""
        waiting = self._roster.waiting
        if not waiting:
            return None
        output = _request(waiting[0]).output
        parts: list[Part] = []
        tokens, rows = 0, 0
        most = max(1, OUTPUT_BYTES // (4 * self._columns(output)))
        for sequence in waiting:
            outputs = self._rows(sequence)
            tokens += len(sequence.tokens)
            rows += outputs
            too_much = tokens > self._tick_tokens or rows > most
            if _request(sequence).output != output or (parts and too_much):
                break
            parts.append(Part(sequence, len(sequence.tokens), outputs, rows - outputs))
            sequence.admitted = now
        return Work(_batch(parts, output), [], parts)

    def _columns(self, output: str) -> int:
        return self._program.columns(self._program.outputs[output])

    def _rows(self, sequence: Sequence) -> int:
        """How many rows the text's output has."""
        request = _request(sequence)
        kind = self._program.buffers[self._program.outputs[request.output].buffer].rows
        if kind is Rows.SEQUENCES:
            return 1
        return len(request.rows) if kind is Rows.SELECTED else len(sequence.tokens)


class WriteTexts:
    """Gives every text its rows."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def __call__(
        self,
        work: Work,
        rows: NDArray[np.float32],
        failed: dict[Sequence, MachineError],
        now: float,
    ) -> int:
        """Run the stage; no tokens are gained."""
        for part in work.parts:
            sequence = part.sequence
            if sequence in failed:
                self._roster.end(sequence, "error", failed[sequence])
                continue
            sequence.blocks.append(rows[part.first : part.first + part.outputs])
            sequence.first_token = sequence.last_token = now
            self._roster.end(sequence, "stop")
        return 0


def _batch(parts: list[Part], output: str) -> Batch:
    starts = np.cumsum([0, *(part.count for part in parts)], dtype=np.int32)
    rows = [
        int(start) + row
        for start, part in zip(starts, parts, strict=False)
        for row in _request(part.sequence).rows
    ]
    return Batch(
        token_ids=np.concatenate([np.array(part.sequence.tokens, np.int32) for part in parts]),
        starts=starts,
        contexts=np.zeros(len(parts), np.int32),
        pages=np.zeros((len(parts), 0), np.int32),
        output_rows=np.array(rows, np.int32),
        output=output,
    )


def _request(sequence: Sequence) -> Encode:
    request = sequence.ticket.request
    assert isinstance(request, Encode)
    return request
