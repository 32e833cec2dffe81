"""What a batch must be for a program: the same rules, and the same words, for every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overclock.errors import MachineError
from overclock.machine.machine import Batch
from overclock.program.isa import Op
from overclock.program.program import PAGE_TOKENS, Program, Rows

IntArray = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What a program, and a machine with `pages` KV pages and some `adapters`, can take."""

    outputs: frozenset[str]
    vocabulary: int
    context: int
    token_types: int
    keeps_kv: bool
    pages: int
    adapters: int = 0

    @classmethod
    def of(cls, program: Program, pages: int) -> BatchRules:
        """The rules of `program` on a machine with room for `pages` KV pages a layer."""
        return cls(
            outputs=frozenset(program.outputs),
            vocabulary=program.vocabulary,
            context=program.context,
            token_types=_token_types(program),
            keeps_kv=bool(program.caches),
            pages=pages,
        )

    def check(self, batch: Batch) -> None:
        """Raises MachineError, which names the value, if the batch breaks a rule."""
        if batch.output not in self.outputs:
            raise MachineError(
                f"the program has no output {batch.output!r}; it has {', '.join(self.outputs)}"
            )
        _check_arrays(batch)
        _check_starts(batch.starts, len(batch.token_ids))
        self._check_values(batch)
        self._check_positions(batch)
        if self.keeps_kv:
            self._check_pages(batch)

    def _check_values(self, batch: Batch) -> None:
        _check_range("token id", batch.token_ids, self.vocabulary)
        _check_range("output row", batch.output_rows, len(batch.token_ids))
        if batch.token_types is not None:
            _check_range("token type", batch.token_types, self.token_types)
        if batch.adapters is not None:
            _check_range("adapter", batch.adapters, self.adapters + 1)

    def _check_positions(self, batch: Batch) -> None:
        ends = batch.contexts.astype(np.int64) + np.diff(batch.starts)
        if batch.contexts.min() < 0:
            raise MachineError(f"context {batch.contexts.min()} is negative; it counts tokens")
        if ends.max() > self.context:
            raise MachineError(
                f"sequence {ends.argmax()} reaches {ends.max()} tokens, but the model's context "
                f"has room for {self.context}; shorten it"
            )
        if not self.keeps_kv and batch.contexts.any():
            raise MachineError("an encoder keeps no context; give each sequence as a whole")

    def _check_pages(self, batch: Batch) -> None:
        first = batch.contexts // PAGE_TOKENS
        needed = -(-(batch.contexts + np.diff(batch.starts)) // PAGE_TOKENS)
        if needed.max() > batch.pages.shape[1]:
            raise MachineError(
                f"sequence {needed.argmax()} needs {needed.max()} KV pages, but the batch names "
                f"{batch.pages.shape[1]}"
            )
        column = np.arange(batch.pages.shape[1])
        used = column < needed[:, None]
        _check_range("KV page", batch.pages[used], self.pages)
        written = batch.pages[used & (column >= first[:, None])]
        read = batch.pages[used & (column < first[:, None])]
        pages, times = np.unique(written, return_counts=True)
        if times.max() > 1 or np.isin(pages, read).any():
            shared = pages[times > 1] if times.max() > 1 else pages[np.isin(pages, read)]
            raise MachineError(
                f"KV page {shared[0]} is written by one sequence and used by another, or used "
                "twice by one; give every sequence its own pages to write"
            )


def positions(batch: Batch) -> IntArray:
    """The position of each token in its sequence, ``int32[T]``."""
    lengths = np.diff(batch.starts)
    rows = np.arange(len(batch.token_ids), dtype=np.int32)
    return rows + np.repeat(batch.contexts - batch.starts[:-1], lengths).astype(np.int32)


def row_count(batch: Batch, rows: Rows) -> int:
    """How many rows an activation of kind `rows` has in this batch."""
    if rows is Rows.TOKENS:
        return len(batch.token_ids)
    return len(batch.output_rows) if rows is Rows.SELECTED else len(batch.contexts)


def _token_types(program: Program) -> int:
    """How many token types the program tells apart; one if it does not look at them."""
    for instruction in program.instructions:
        if instruction.op is Op.EMBED and instruction.inputs["ids"][0].buffer == "token_types":
            return program.buffers[instruction.inputs["table"][0].buffer].shape[0]
    return 1


def _check_arrays(batch: Batch) -> None:
    """Types and shapes, by the S of `contexts` and the T of `token_ids`."""
    sequences, tokens = len(batch.contexts), len(batch.token_ids)
    wanted: dict[str, tuple[IntArray | None, tuple[int | None, ...]]] = {
        "token_ids": (batch.token_ids, (None,)),
        "contexts": (batch.contexts, (None,)),
        "starts": (batch.starts, (sequences + 1,)),
        "pages": (batch.pages, (sequences, None)),
        "output_rows": (batch.output_rows, (None,)),
        "token_types": (batch.token_types, (tokens,)),
        "adapters": (batch.adapters, (sequences,)),
    }
    for name, (array, shape) in wanted.items():
        if array is not None:
            _check_array(name, array, shape)
    if not tokens:
        raise MachineError("the batch has no tokens; give it at least one")


def _check_array(name: str, array: IntArray, shape: tuple[int | None, ...]) -> None:
    if array.dtype != np.int32:
        raise MachineError(f"{name} is {array.dtype}, but must be int32")
    fits = len(shape) == array.ndim and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise MachineError(f"{name} has the shape {list(array.shape)}, but must be [{sizes}]")


def _check_starts(starts: IntArray, tokens: int) -> None:
    if starts[0] != 0 or starts[-1] != tokens or (np.diff(starts) < 1).any():
        raise MachineError(
            f"starts must rise from 0 to the {tokens} tokens of the batch, with a token for each "
            f"sequence, not {starts.tolist()}"
        )


def _check_range(what: str, values: IntArray, limit: int) -> None:
    if not values.size:
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= limit:
        raise MachineError(f"{what} {low if low < 0 else high} is not in 0 … {limit - 1}")
