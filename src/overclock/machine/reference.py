"""The reference machine: NumPy, plain and obviously right; what the others are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from overclock.errors import MachineError
from overclock.machine.batch import BatchRules, positions, row_count
from overclock.machine.machine import Batch, Counters, KvFormat
from overclock.machine.reference_ops import OPS, Array, Cache, Sequence, Step, quantized
from overclock.machine.tally import Tally
from overclock.machine.weights import weight_of
from overclock.model.formats import Format, quantize_rows
from overclock.model.model import Tensor
from overclock.program.program import Buffer, Instruction, Kind, Operand, Program


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
        self._rules = BatchRules.of(program, pages)
        self._tally = Tally(len(program.instructions))

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """One pass over the batch; the wanted output as ``f32[rows, columns]``.

        Raises MachineError if nothing is loaded or the batch does not fit the program.
        """
        if self._program is None:
            raise MachineError("the machine has no program; call load() first")
        self._rules.check(batch)
        run = _Run(self._program, batch, self._fixed, self._caches)
        for index in self._program.needed_for(batch.output):
            start = perf_counter()
            run.step(self._program.instructions[index])
            self._tally.seconds[index] += perf_counter() - start
        self._tally.runs += 1
        return run.value(self._program.outputs[batch.output]).copy()

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
        self._sequences = tuple(
            Sequence(slice(first, last), self._positions[first:last], pages)
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
        )
        values = OPS[instruction.op](step)
        for role, operands in instruction.outputs.items():
            if role != "cache":
                self._write(operands[0], values[role])

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


def _weight(buffer: Buffer, weights: Mapping[str, Tensor]) -> Array:
    """A weight's numbers as the program wants them held, ``f32[buffer.shape]``."""
    values = weight_of(buffer, weights).dequantize()
    if buffer.format is Format.I8:
        integers, scales = quantize_rows(values)
        return integers.astype(np.float32) * scales[:, None]
    return values
