"""The virtual machine: computes nothing, and says how long a run would take at best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from sys import getrefcount

import numpy as np
from numpy.typing import NDArray

from overclock.errors import InputError, MachineError
from overclock.machine.adapters import check_adapters, ranks
from overclock.machine.batch import BatchRules, row_count
from overclock.machine.machine import Batch, Counters, KvFormat
from overclock.machine.pages import PageNumbers, PageRules
from overclock.machine.tally import Tally
from overclock.model.adapter import Adapter
from overclock.model.model import Tensor
from overclock.program.cost import Cost, Load, cost, kv_token_bytes, uses_integers
from overclock.program.program import PAGE_TOKENS, Program

Pace = Callable[[Cost, bool], float]
"""Seconds of an instruction of this cost; the flag says that its products are of int8 numbers."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """The pace of a machine that always reaches the nearer one of its two limits.

    Operations of int8 products have a limit of their own, or the common one if it is None.
    Source: Williams, Waterman & Patterson, "Roofline", 2009.
    """

    bytes_per_second: float
    operations_per_second: float
    int8_operations_per_second: float | None = None

    def __post_init__(self) -> None:
        for limit in (self.bytes_per_second, self.operations_per_second, self._int8()):
            if not limit > 0:
                raise InputError(f"a limit of {limit} per second is not possible; it must be > 0")

    def __call__(self, cost: Cost, integers: bool) -> float:
        """Seconds: the longer of moving the bytes and doing the operations."""
        peak = self._int8() if integers else self.operations_per_second
        return max(cost.bytes / self.bytes_per_second, cost.operations / peak)

    def _int8(self) -> float:
        limit = self.int8_operations_per_second
        return self.operations_per_second if limit is None else limit


class VirtualMachine:
    """Takes batches as any machine does, answers with zeros, and counts modelled seconds.

    `last_seconds` is what the last batch would have taken, 0 before the first.
    """

    def __init__(
        self, pace: Pace, kv: KvFormat = "f16", advance: Callable[[float], None] | None = None
    ) -> None:
        """`pace` turns the cost of an instruction into seconds; see `Roofline`.

        advance: is told the seconds of every batch, so that a virtual time can go on by them
        """
        self._advance = advance
        self.last_seconds = 0.0
        self._pace = pace
        self._kv: KvFormat = kv
        self._program: Program | None = None
        self._pages = PageRules()
        self._tally = Tally(0)
        self._result: NDArray[np.float32] = np.zeros(0, np.float32)

    def load(self, program: Program, weights: Mapping[str, Tensor], *, pages: int) -> None:
        """Take a verified program; `weights` are not looked at, so they may be left out ({})."""
        self._program = program
        self._rules = BatchRules.of(program, pages)
        token = sum(kv_token_bytes(cache, self._kv) for cache in program.caches)
        self._pages = PageRules.of(program, pages, PAGE_TOKENS * token)
        self._needed = {output: program.needed_for(output) for output in program.outputs}
        self._tally = Tally(len(program.instructions))
        self._ranks: Mapping[str, tuple[int, ...]] = {}

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Take the ranks of adapters; MachineError as in `Machine`."""
        self._ranks = ranks(check_adapters(self._program, adapters), adapters)
        self._rules = replace(self._rules, adapters=len(adapters))

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Zeros in the shape of the wanted output; the time goes to `last_seconds` and counters.

        Raises MachineError if nothing is loaded or the batch does not fit the program.
        """
        if self._program is None:
            raise MachineError("the machine has no program; call load() first")
        self._rules.check(batch)
        seconds = self._modelled(self._program, batch)
        self.last_seconds = float(seconds.sum())
        self._tally.seconds += seconds
        self._tally.runs += 1
        if self._advance is not None:
            self._advance(self.last_seconds)
        operand = self._program.outputs[batch.output]
        rows = self._program.buffers[operand.buffer].rows
        assert rows is not None, f"{operand} has no rows"
        return self._zeros(row_count(batch, rows), self._program.columns(operand))

    def tapped(
        self, batch: Batch, taps: Sequence[str]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """MachineError: nothing is computed, so there is nothing to copy out."""
        raise MachineError("the virtual machine computes nothing; tap the native or reference one")

    def watch(self, on: bool) -> None:
        """Nothing: there are no threads to watch."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one KV page over all layers, without padding."""
        return self._pages.page_bytes

    def copy_pages(self, sources: PageNumbers, targets: PageNumbers) -> None:
        """Nothing, as pages hold nothing; MachineError as in `Machine`."""
        self._pages.pairs(sources, targets)

    def read_pages(self, pages: PageNumbers) -> NDArray[np.uint8]:
        """Zeros, ``u8[n, page_bytes]``; MachineError for a page that there is not."""
        return np.zeros((len(self._pages.numbers(pages)), self.page_bytes), np.uint8)

    def write_pages(self, pages: PageNumbers, data: NDArray[np.uint8]) -> None:
        """Nothing, as pages hold nothing; MachineError as in `Machine`."""
        self._pages.check_data(len(self._pages.numbers(pages)), data)

    def counters(self) -> Counters:
        """What each instruction cost since the last call, which also sets them to zero."""
        return self._tally.take()

    def _zeros(self, rows: int, columns: int) -> NDArray[np.float32]:
        """``f32[rows, columns]``, in the last result's memory if nobody holds that any more."""
        held = getrefcount(self._result) > 2  # this machine's, and the one of asking
        if held or self._result.size < rows * columns:
            self._result = np.zeros(rows * columns, np.float32)
        result = self._result[: rows * columns]
        result.fill(0.0)
        return result.reshape(rows, columns)

    def _modelled(self, program: Program, batch: Batch) -> NDArray[np.float64]:
        """Seconds of each instruction, ``f64[instructions]``."""
        load = replace(load_of(batch), ranks=self._ranks)
        seconds = np.zeros(len(program.instructions))
        for index in self._needed[batch.output]:
            instruction = program.instructions[index]
            spent = cost(program, instruction, load, self._kv)
            seconds[index] = self._pace(spent, uses_integers(program, instruction))
        return seconds


def load_of(batch: Batch) -> Load:
    """What a batch brings, as far as its cost depends on it."""
    lengths = tuple(int(length) for length in np.diff(batch.starts))
    contexts = tuple(int(context) for context in batch.contexts)
    adapters = () if batch.adapters is None else tuple(batch.adapters.tolist())
    return Load(lengths, contexts, len(batch.output_rows), adapters)
