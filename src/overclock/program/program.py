"""What a compiled program is: instructions in order, over named buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Literal

from overclock.model.formats import Format
from overclock.program.isa import OPTIONAL_ATTRIBUTES, Op

PAGE_TOKENS = 32
"""Tokens in one KV page: one cache line of 16-bit keys for each column of a head."""

KvFormat = Literal["f32", "f16", "i8"]
"""What KV pages hold: numbers of 32 or 16 bits, or int8 with an f32 scale a token and head."""

GROUP = 32
"""Columns of a quantised activation row that share one scale."""

GROUP_BYTES = 12
"""Beside the values of such a group: f32 scale, f32 scale · sum, i32 sum of the values."""


class Kind(StrEnum):
    """What a buffer is for."""

    INPUT = "input"  # integers of the batch: token_ids, positions, token_types
    WEIGHT = "weight"  # a tensor of the model, read only
    CONSTANT = "constant"  # f32 values made by the compiler, read only
    ACTIVATION = "activation"  # lives within one run
    CACHE = "cache"  # the KV pages of one layer, lives from run to run


class Rows(StrEnum):
    """How many rows an activation has in a given batch."""

    TOKENS = "T"
    SELECTED = "L"
    SEQUENCES = "S"


class Element(StrEnum):
    """What an activation's numbers are."""

    F32 = "f32"
    I8 = "i8"  # groups of 32 columns: int8 values, one f32 scale
    I8X2 = "i8x2"  # the same twice: what the first int8 leaves is rounded again

    @property
    def terms(self) -> int:
        """How many int8 numbers stand for a value; 0 for f32."""
        return {"f32": 0, "i8": 1, "i8x2": 2}[self.value]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A named piece of memory.

    Activations have `rows` rows of `columns` numbers of type `element`. Weights and constants have
    `shape` and, for weights, the `format` that the machine holds them in (the tensor's own, or
    `Format.I8` when the program asks for quantisation on load). A cache holds, for every page,
    K and V as ``[kv_heads, PAGE_TOKENS, columns / kv_heads]``; `columns` is kv_heads · head_dim and
    `kv_heads` is `shape[0]`.
    """

    name: str
    kind: Kind
    columns: int
    rows: Rows | None = None
    element: Element = Element.F32
    shape: tuple[int, ...] = ()
    format: Format = Format.F32


@dataclass(frozen=True, slots=True)
class Operand:
    """A buffer, or the columns `start` to `stop` of it."""

    buffer: str
    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        return self.buffer if self.stop is None else f"{self.buffer}[{self.start}:{self.stop}]"

    def overlaps(self, other: Operand) -> bool:
        """Whether both share columns of a buffer."""
        ends = [float("inf") if each.stop is None else each.stop for each in (self, other)]
        return self.buffer == other.buffer and self.start < ends[1] and other.start < ends[0]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One opcode with its operands by role and its attributes."""

    op: Op
    inputs: Mapping[str, tuple[Operand, ...]]
    outputs: Mapping[str, tuple[Operand, ...]]
    attributes: Mapping[str, object] = field(default_factory=dict)
    layer: int | None = None  # the Transformer layer it belongs to, for the account

    def attribute(self, name: str) -> object:
        """The attribute, or what it is when the instruction does not give it."""
        return self.attributes.get(name, OPTIONAL_ATTRIBUTES.get(name))

    def reads(self) -> Iterator[Operand]:
        """All input operands, in order."""
        for operands in self.inputs.values():
            yield from operands

    def writes(self) -> Iterator[Operand]:
        """All output operands, in order."""
        for operands in self.outputs.values():
            yield from operands


@dataclass(frozen=True)
class Program:
    """Instructions run from first to last; `outputs` names what a batch may ask for.

    `constants` holds the values of `Kind.CONSTANT` buffers, as plain tuples of floats.
    `exact` says that matrix products take f32 activations.
    """

    name: str
    instructions: tuple[Instruction, ...]
    buffers: Mapping[str, Buffer]
    outputs: Mapping[str, Operand]
    constants: Mapping[str, tuple[float, ...]]
    context: int
    vocabulary: int
    exact: bool

    def columns(self, operand: Operand) -> int:
        """Width of an operand."""
        stop = self.buffers[operand.buffer].columns if operand.stop is None else operand.stop
        return stop - operand.start

    @cached_property
    def sites(self) -> Mapping[str, tuple[int, int]]:
        """Weights that adapters may change → columns of what comes in and of what goes out."""
        return {
            str(each.attribute("site")): (
                self.columns(each.inputs["x"][0]),
                self.columns(each.outputs["y"][0]),
            )
            for each in self.instructions
            if each.op is Op.ADAPT
        }

    @cached_property
    def caches(self) -> tuple[Buffer, ...]:
        """The KV buffers, one a layer that attends to the past."""
        return tuple(b for b in self.buffers.values() if b.kind is Kind.CACHE)

    def needed_for(self, output: str) -> tuple[int, ...]:
        """Indices of the instructions that `output` depends on, in order."""
        needed: list[int] = []
        wanted = {self.outputs[output].buffer}
        for index in range(len(self.instructions) - 1, -1, -1):
            instruction = self.instructions[index]
            if any(operand.buffer in wanted for operand in instruction.writes()):
                needed.append(index)
                wanted.update(operand.buffer for operand in instruction.reads())
        return tuple(reversed(needed))
