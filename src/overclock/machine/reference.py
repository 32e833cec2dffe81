"""The reference machine: NumPy, plain and obviously right; what the others are judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from overclock.errors import MachineError
from overclock.machine.adapters import check_adapters
from overclock.machine.batch import BatchRules, positions, row_count
from overclock.machine.machine import Batch, Counters, KvFormat
from overclock.machine.pages import PageNumbers, PageRules
from overclock.machine.reference_ops import OPS, Array, Cache, Step, quantized
from overclock.machine.reference_ops import Sequence as Part
from overclock.machine.tally import Tally
from overclock.machine.taps import tap_writers
from overclock.machine.weights import weight_of
from overclock.model.adapter import Adapter
from overclock.model.formats import Format, quantize_rows
from overclock.model.model import Tensor
from overclock.program.isa import Op
from overclock.program.program import Buffer, Instruction, Kind, Operand, Program, Rows


class ReferenceMachine:
    """Runs a program in f32 as its opcodes are defined, one instruction after another.

    Weights are dequantised when they are loaded. int8 activations and KV pages are held as the
    numbers that they stand for, so that the rounding is there but no integer arithmetic is.
    """

    def __init__(self, kv: KvFormat = "f16") -> None:
        """`kv` is what K and V are rounded to when they are stored."""
        self._kv: KvFormat = kv
        self._program: Program | None = None
        self._fixed: dict[str, Array] = {}
        self._caches: dict[str, Cache] = {}
        self._pages = PageRules()
        self._tally = Tally(0)

    def load(self, program: Program, weights: Mapping[str, Tensor], *, pages: int) -> None:
        """Take a verified program and its weights; make room for `pages` KV pages a layer.

        Raises MachineError if a weight is missing or has another shape than the program says.
        """
        self._fixed = {name: np.array(v, np.float32) for name, v in program.constants.items()}
        for buffer in program.buffers.values():
            if buffer.kind is Kind.WEIGHT:
                self._fixed[buffer.name] = _weight(buffer, weights)
        self._caches = {
            cache.name: Cache(pages, cache.shape[0], cache.columns // cache.shape[0], self._kv)
            for cache in program.caches
        }
        self._program = program
        self._adapters: tuple[Adapter, ...] = ()
        self._rules = BatchRules.of(program, pages)
        self._pages = PageRules.of(program, pages, sum(c.page_bytes for c in self._caches.values()))
        self._tally = Tally(len(program.instructions))

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Take adapters in the place of those that there were; MachineError as in `Machine`."""
        check_adapters(self._program, adapters)
        self._adapters = tuple(adapters)
        self._rules = replace(self._rules, adapters=len(adapters))

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """One pass over the batch; the wanted output as ``f32[rows, columns]``.

        Raises MachineError if nothing is loaded or the batch does not fit the program.
        """
        if self._program is None:
            raise MachineError("the machine has no program; call load() first")
        self._rules.check(batch)
        run = _Run(self._program, batch, self._fixed, self._caches, self._adapters)
        for index in self._program.needed_for(batch.output):
            start = perf_counter()
            run.step(self._program.instructions[index])
            self._tally.seconds[index] += perf_counter() - start
        self._tally.runs += 1
        return run.value(self._program.outputs[batch.output]).copy()

    def tapped(
        self, batch: Batch, taps: Sequence[str]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """As `run`, and what f32 activations held; MachineError as in `Machine`."""
        if self._program is None:
            raise MachineError("the machine has no program; call load() first")
        self._rules.check(batch)
        writers = tap_writers(self._program, batch.output, taps)
        run = _Run(self._program, batch, self._fixed, self._caches, self._adapters)
        found: dict[str, NDArray[np.float32]] = {}
        for index in self._program.needed_for(batch.output):
            run.step(self._program.instructions[index])
            ready = [name for name in taps if writers[name] == index]
            found.update({name: run.value(Operand(name)).copy() for name in ready})
        return run.value(self._program.outputs[batch.output]).copy(), found

    def watch(self, on: bool) -> None:
        """Nothing: there are no threads to watch."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one KV page over all layers, in f32."""
        return self._pages.page_bytes

    def copy_pages(self, sources: PageNumbers, targets: PageNumbers) -> None:
        """KV page sources[i] to targets[i], whole and in order; MachineError as in `Machine`."""
        for source, target in self._pages.pairs(sources, targets):
            for side in self._sides():
                side[target] = side[source]

    def read_pages(self, pages: PageNumbers) -> NDArray[np.uint8]:
        """The bytes of KV pages, ``u8[n, page_bytes]``; MachineError for one there is not."""
        numbers = self._pages.numbers(pages)
        data = np.zeros((len(numbers), self.page_bytes), np.uint8)
        for side, part in zip(self._sides(), self._parts(data), strict=True):
            part[:] = side[numbers].reshape(len(numbers), _page_size(side)).view(np.uint8)
        return data

    def write_pages(self, pages: PageNumbers, data: NDArray[np.uint8]) -> None:
        """``data u8[n, page_bytes]`` becomes what KV pages hold; MachineError as in `Machine`."""
        self._pages.check_data(len(pages), data)
        numbers = self._pages.numbers(pages)
        for side, part in zip(self._sides(), self._parts(data), strict=True):
            values = np.ascontiguousarray(part).view(np.float32)
            for number, value in zip(numbers, values, strict=True):
                side[number] = value.reshape(side.shape[1:])

    def _sides(self) -> list[Array]:
        """K and V of every layer, ``f32[pages, …]`` each."""
        return [side for cache in self._caches.values() for side in (cache.k, cache.v)]

    def _parts(self, data: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The columns of page bytes that belong to each of `_sides`."""
        ends = np.cumsum([side.itemsize * _page_size(side) for side in self._sides()])
        return np.split(data, ends[:-1], axis=1) if len(ends) else []

    def counters(self) -> Counters:
        """What each instruction cost since the last call, which also sets them to zero."""
        return self._tally.take()


class _Run:
    """One batch on its way through a program."""

    def __init__(
        self,
        program: Program,
        batch: Batch,
        fixed: Mapping[str, Array],
        caches: Mapping[str, Cache],
        adapters: tuple[Adapter, ...],
    ) -> None:
        self._program = program
        self._batch = batch
        self._values: dict[str, Array] = dict(fixed)
        self._caches = caches
        self._positions = positions(batch)
        types = np.zeros_like(batch.token_ids) if batch.token_types is None else batch.token_types
        self._ids = {
            "token_ids": batch.token_ids,
            "positions": self._positions,
            "token_types": types,
        }
        self._adapters = _adapter_of_rows(batch, adapters)
        self._sequences = tuple(
            Part(slice(first, last), self._positions[first:last], pages)
            for first, last, pages in zip(batch.starts, batch.starts[1:], batch.pages, strict=False)
        )

    def step(self, instruction: Instruction) -> None:
        """Run one instruction and keep what it writes."""
        step = Step(
            instruction,
            self._inputs(instruction),
            self._sequences,
            self._positions,
            self._batch.output_rows,
            self._caches,
            self._ids,
            self._adapters_of(instruction) if instruction.op is Op.ADAPT else (),
        )
        values = OPS[instruction.op](step)
        for role, operands in instruction.outputs.items():
            if role != "cache":
                self._write(operands[0], values[role])

    def _adapters_of(self, instruction: Instruction) -> tuple[Adapter | None, ...]:
        """The adapter of the sequence of each row that the instruction writes."""
        buffer = self._program.buffers[instruction.outputs["y"][0].buffer]
        if buffer.rows is Rows.SELECTED:
            return tuple(self._adapters[token] for token in self._batch.output_rows)
        return self._adapters

    def value(self, operand: Operand) -> Array:
        """An operand's ``f32[rows, columns]``."""
        return self._values[operand.buffer][..., operand.start : operand.stop]

    def _inputs(self, instruction: Instruction) -> dict[str, tuple[Array, ...]]:
        return {
            role: tuple(self.value(operand) for operand in operands)
            for role, operands in instruction.inputs.items()
            if role not in ("ids", "cache")
        }

    def _write(self, operand: Operand, value: Array) -> None:
        buffer = self._program.buffers[operand.buffer]
        assert buffer.rows is not None, f"{buffer.name} has no rows"
        if buffer.name not in self._values:
            shape = (row_count(self._batch, buffer.rows), buffer.columns)
            self._values[buffer.name] = np.zeros(shape, np.float32)
        target = self._values[buffer.name][:, operand.start : operand.stop]
        assert target.shape == value.shape, f"{operand} {target.shape} takes no {value.shape}"
        target[:] = 0 if buffer.element.terms else value
        for _ in range(buffer.element.terms):
            target += quantized(value - target)


def _adapter_of_rows(batch: Batch, adapters: tuple[Adapter, ...]) -> tuple[Adapter | None, ...]:
    """The adapter of each token's sequence."""
    lengths = np.diff(batch.starts)
    numbers = np.zeros_like(batch.contexts) if batch.adapters is None else batch.adapters
    choice = (None, *adapters)
    return tuple(choice[number] for number in np.repeat(numbers, lengths))


def _page_size(side: Array) -> int:
    """Numbers in one page of ``f32[pages, …]``."""
    return math.prod(side.shape[1:])


def _weight(buffer: Buffer, weights: Mapping[str, Tensor]) -> Array:
    """A weight's numbers as the program wants them held, ``f32[buffer.shape]``."""
    values = weight_of(buffer, weights).dequantize()
    if buffer.format is Format.I8:
        integers, scales = quantize_rows(values)
        return integers.astype(np.float32) * scales[:, None]
    return values
