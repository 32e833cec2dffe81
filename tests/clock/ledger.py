"""A machine whose KV pages hold the tokens themselves, so that no mistake with a page stays hidden.

A run writes each token to its place in its page, and reads the whole history of every output row
back through the batch's page table. The logits are a hash of that history. A page that was shared,
copied, given away or thrown out wrongly therefore changes tokens, or fails at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from overclock.clock.time import VirtualTime
from overclock.errors import MachineError
from overclock.machine.machine import Batch, Counters
from overclock.machine.pages import PageNumbers, PageRules
from overclock.model.adapter import Adapter
from overclock.model.model import Tensor
from overclock.program.program import PAGE_TOKENS, Buffer, Kind, Operand, Program

VOCABULARY = 50

NOTHING = -1
"""What a cell of a page holds before it is written."""

CYCLE = 5
"""Texts tend to count up to here over and over, so that speculation has something to find."""

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def ledger_program(context: int, vocabulary: int = VOCABULARY) -> Program:
    """What a clock wants to know of a program that keeps KV."""
    return Program(
        name="ledger",
        instructions=(),
        buffers={"kv": Buffer("kv", Kind.CACHE, columns=1, shape=(1,))},
        outputs={"logits": Operand("logits")},
        constants={},
        context=context,
        vocabulary=vocabulary,
        exact=True,
    )


def expected_logits(
    history: Sequence[int] | NDArray[np.int32], adapter: int
) -> NDArray[np.float32]:
    """The logits ``f32[V]`` behind `history`: any change of it, or of the adapter, changes them."""
    tokens = np.asarray(history).astype(np.uint64)
    places = np.arange(1, len(tokens) + 1, dtype=np.uint64)
    total = _mixed(_mixed(tokens + np.uint64(1)) * (places * _ODD | np.uint64(1))).sum(
        keepdims=True
    )
    digest = _mixed(total + np.array([adapter], np.uint64) * _MIX)  # arrays of one: they may wrap
    each = _mixed(digest + np.arange(VOCABULARY, dtype=np.uint64) * _ODD)
    logits = ((each >> np.uint64(40)).astype(np.float32) / np.float32(1 << 22)) - np.float32(2.0)
    if int(digest[0]) % 8:  # mostly, the text goes on counting
        logits[(int(history[-1]) + 1) % CYCLE] += np.float32(6.0)
    return logits


class Ledger:
    """Implements `machine.machine.Machine`.

    fail_at: numbers of runs that fail, whatever is in the batch; the first run is number 0
    poison: a run fails if this token is in its batch
    damaged: behind this token, logits are not numbers
    is_draft: it guesses, mostly right; what it reads need not have been written, after a failure
    rows, runs: tokens and batches that were run, with those that failed
    furthest: tokens of the longest sequence that was run
    lonely: failures by `fail_at` of a batch with one sequence, which therefore ends
    """

    def __init__(
        self,
        pages: int,
        time: VirtualTime | None = None,
        run_s: float = 0.0,
        row_s: float = 0.0,
        *,
        is_draft: bool = False,
    ) -> None:
        """A run lets `run_s` seconds of `time` pass, and `row_s` for each of its tokens."""
        # token, position and adapter of every place
        self.cells = np.full((pages, PAGE_TOKENS, 3), NOTHING, np.int32)
        self.fail_at: set[int] = set()
        self.poison: int | None = None
        self.damaged: int | None = None
        self.rows = 0
        self.runs = 0
        self.lonely = 0
        self.furthest = 0
        self._is_draft = is_draft
        self._time = time
        self._cost = (run_s, row_s)
        self._rules = PageRules(pages, self.page_bytes)

    def load(self, program: Program, weights: Mapping[str, Tensor], *, pages: int) -> None:
        """A ledger is made for one program."""

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Write the tokens down, and answer from what is written."""
        number, rows = self.runs, len(batch.token_ids)
        self.runs += 1
        self.rows += rows
        self.furthest = max(self.furthest, int((batch.contexts + np.diff(batch.starts)).max()))
        if self._time is not None:
            self._time.advance(self._cost[0] + self._cost[1] * rows)
        check_pages(batch)
        if number in self.fail_at:
            self.lonely += len(batch.contexts) == 1
            self._write(batch, rows // 2)  # as far as it came
            raise MachineError(f"run {number} fails, as it was told to")
        if self.poison is not None and self.poison in batch.token_ids:
            self._write(batch, rows // 2)
            raise MachineError(f"token {self.poison} cannot be run")
        self._write(batch, rows)
        return self._read(batch)

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Any number is an adapter here."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one page."""
        return 3 * 4 * PAGE_TOKENS

    def copy_pages(self, sources: PageNumbers, targets: PageNumbers) -> None:
        """Copy whole pages."""
        for source, target in self._rules.pairs(sources, targets):
            assert source != target, f"page {source} is copied to itself"
            self.cells[target] = self.cells[source]

    def read_pages(self, pages: PageNumbers) -> NDArray[np.uint8]:
        """The bytes of pages."""
        numbers = self._rules.numbers(pages)
        return self.cells[numbers].reshape(len(numbers), -1).view(np.uint8)

    def write_pages(self, pages: PageNumbers, data: NDArray[np.uint8]) -> None:
        """Take the bytes of pages back."""
        self._rules.check_data(len(pages), data)
        cells = np.ascontiguousarray(data).view(np.int32).reshape(-1, PAGE_TOKENS, 3)
        self.cells[self._rules.numbers(pages)] = cells

    def tapped(
        self, batch: Batch, taps: Sequence[str]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """There are no buffers."""
        raise AssertionError("a clock taps nothing")

    def watch(self, on: bool) -> None:
        """There are no threads."""

    def counters(self) -> Counters:
        """There are no instructions."""
        return Counters(np.zeros(0), self.runs)

    def _write(self, batch: Batch, rows: int) -> None:
        """Write the first `rows` tokens of the batch to their pages."""
        adapters = _adapters(batch)
        for s, (start, stop) in enumerate(zip(batch.starts, batch.starts[1:])):
            stop = min(stop, rows)
            at = batch.contexts[s] + np.arange(max(0, stop - start))
            cells = (batch.pages[s, at // PAGE_TOKENS], at % PAGE_TOKENS)
            self.cells[(*cells, 0)] = batch.token_ids[start:stop]
            self.cells[(*cells, 1)] = at
            self.cells[(*cells, 2)] = adapters[s]

    def _read(self, batch: Batch) -> NDArray[np.float32]:
        logits = np.empty((len(batch.output_rows), VOCABULARY), np.float32)
        adapters = _adapters(batch)
        for line, row in zip(logits, batch.output_rows):
            s = int(np.searchsorted(batch.starts, row, "right")) - 1
            length = int(batch.contexts[s] + row - batch.starts[s]) + 1
            at = np.arange(length)
            history = self.cells[batch.pages[s, at // PAGE_TOKENS], at % PAGE_TOKENS]
            if not self._is_draft:
                _check_history(history, int(adapters[s]))
            line[:] = expected_logits(history[:, 0], int(adapters[s]) + 1000 * self._is_draft)
            if self._is_draft:  # a guess that cannot be run would be the draft model's fault
                line[-1] = -np.inf
            if self.damaged is not None and history[-1, 0] == self.damaged:
                line[:] = np.nan
        return logits


def _check_history(history: NDArray[np.int32], adapter: int) -> None:
    assert (history[:, 0] != NOTHING).all(), "a place is read that was never written"
    assert (history[:, 1] == np.arange(len(history))).all(), "a page is read as another part"
    assert (history[:, 2] == adapter).all(), "a page of another adapter is read"


def check_pages(batch: Batch) -> None:
    """Prove that no page of a batch is written by one sequence and used by another."""
    written: dict[int, int] = {}
    ends = batch.contexts + np.diff(batch.starts)
    for s, (context, end) in enumerate(zip(batch.contexts, ends)):
        for page in batch.pages[s, context // PAGE_TOKENS : -(-end // PAGE_TOKENS)].tolist():
            assert page not in written, f"page {page} is written by two sequences, or twice"
            written[page] = s
    for s, context in enumerate(batch.contexts):
        read = batch.pages[s, : context // PAGE_TOKENS].tolist()
        assert not written.keys() & set(read), "a page is written by one and read by another"


def _adapters(batch: Batch) -> NDArray[np.int32]:
    """The adapter of each sequence, ``int32[S]``."""
    if batch.adapters is None:
        return np.zeros(len(batch.contexts), np.int32)
    return batch.adapters


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64's finaliser, for many numbers."""
    values = (values ^ (values >> np.uint64(30))) * _MIX
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
