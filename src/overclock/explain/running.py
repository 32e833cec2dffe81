"""A model loaded on a machine, and many sequences run on it in ragged batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overclock.machine import choose
from overclock.machine.choose import MachineName
from overclock.machine.machine import Batch
from overclock.model.model import Model
from overclock.program.program import PAGE_TOKENS, KvFormat, Program, Rows

Array = NDArray[np.float32]

RUN_TOKENS = 1024
"""So many tokens in a run, unless a single sequence has more: enough to read the weights for
nothing, few enough that activations stay in the caches."""

RUN_BYTES = 64 << 20
"""Most memory for the answer of one run, unless a single sequence has more."""


@dataclass(frozen=True, slots=True)
class Piece:
    """New tokens of one sequence.

    rows: those of the new tokens whose output is wanted
    context: tokens in front of them, which are in the first KV pages of the machine
    """

    ids: Sequence[int]
    rows: Sequence[int] = ()
    context: int = 0

    @property
    def pages(self) -> int:
        """KV pages of its own; the context ends where a page does."""
        return -(-len(self.ids) // PAGE_TOKENS)


class Running:
    """A program on a machine with room for sequences of `tokens` tokens."""

    def __init__(
        self,
        model: Model,
        program: Program,
        tokens: int,
        *,
        machine: MachineName,
        threads: int | None,
        kv: KvFormat,
    ) -> None:
        """Load. Raises MachineError if there is not enough memory."""
        self.program = program
        self.machine = choose.make(machine, threads, kv)
        self._shared = -(-tokens // PAGE_TOKENS) if program.caches else 0
        self._own = max(self._shared, RUN_TOKENS // PAGE_TOKENS) if program.caches else 0
        self.machine.load(program, model.weights, pages=self._shared + self._own)

    def columns(self, output: str) -> int:
        """Width of an output."""
        return self.program.columns(self.program.outputs[output])

    def sequence(
        self, ids: Sequence[int], rows: Sequence[int], output: str, first: int = 0
    ) -> Batch:
        """The tokens of one sequence from `first` on, which is written to the first KV pages.

        rows: of the new tokens, those whose output is wanted
        """
        return Batch(
            token_ids=np.array(ids[first:], np.int32),
            starts=np.array([0, len(ids) - first], np.int32),
            contexts=np.array([first], np.int32),
            pages=np.arange(self._shared, dtype=np.int32)[None],
            output_rows=np.array(rows, np.int32),
            output=output,
        )

    def each(self, pieces: Sequence[Piece], output: str) -> Iterator[Array]:
        """The wanted rows of each piece, in order, ``f32[rows, columns]`` each."""
        for group in self._groups(pieces, 4 * self.columns(output)):
            values = self.machine.run(self._batch(group, output))
            yield from np.split(values, np.cumsum(self._counts(group, output))[:-1])

    def _groups(self, pieces: Sequence[Piece], row_bytes: int) -> Iterator[list[Piece]]:
        """Pieces that go together, as many as there is room for."""
        group: list[Piece] = []
        tokens = size = pages = 0
        for piece in pieces:
            tokens += len(piece.ids)
            size += row_bytes * len(piece.rows)
            pages += piece.pages
            fits = tokens <= RUN_TOKENS and size <= RUN_BYTES
            if group and not (fits and (pages <= self._own or not self.program.caches)):
                yield group
                group = []
                tokens, size, pages = len(piece.ids), row_bytes * len(piece.rows), piece.pages
            group.append(piece)
        if group:
            yield group

    def _batch(self, group: Sequence[Piece], output: str) -> Batch:
        starts = np.cumsum([0, *(len(piece.ids) for piece in group)])
        rows = [start + row for start, piece in zip(starts, group) for row in piece.rows]
        return Batch(
            token_ids=np.concatenate([np.array(piece.ids, np.int32) for piece in group]),
            starts=starts.astype(np.int32),
            contexts=np.array([piece.context for piece in group], np.int32),
            pages=self._pages(group),
            output_rows=np.array(rows, np.int32),
            output=output,
        )

    def _pages(self, group: Sequence[Piece]) -> NDArray[np.int32]:
        """The shared pages of each piece's context, then pages of its own."""
        if not self.program.caches:
            return np.zeros((len(group), 0), np.int32)
        table = np.zeros((len(group), self._shared + self._own), np.int32)
        free = self._shared
        for row, piece in zip(table, group):
            shared = piece.context // PAGE_TOKENS
            row[:shared] = np.arange(shared)
            row[shared : shared + piece.pages] = np.arange(free, free + piece.pages)
            free += piece.pages
        return table

    def _counts(self, group: Sequence[Piece], output: str) -> list[int]:
        """How many rows of the output each piece has."""
        rows = self.program.buffers[self.program.outputs[output].buffer].rows
        if rows is Rows.SEQUENCES:
            return [1] * len(group)
        return [len(piece.ids if rows is Rows.TOKENS else piece.rows) for piece in group]
