"""Which activations share memory: those that are never needed at the same time.

::

    instruction   0   1   2   3   4
    a             w───r                  slot 0
    b                 w───r              slot 1   (lives with a while 1 runs)
    c                     w───────r      slot 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overclock.program.program import GROUP, GROUP_BYTES, Buffer, Element, Kind, Program, Rows

ALIGNMENT = 64
"""Rows start at multiples of a cache line, which is also the widest vector register."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Memory that holds one buffer at a time.

    `row_bytes` is the longest row of its buffers, for each kind of rows that they have.
    """

    row_bytes: Mapping[Rows, int]

    def bytes(self, rows: Mapping[Rows, int]) -> int:
        """Bytes it needs for a batch with so many `rows` of each kind."""
        return max(count * rows[kind] for kind, count in self.row_bytes.items())


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots, and the index of the slot of every activation buffer."""

    slots: tuple[Slot, ...]
    slot_of: Mapping[str, int]

    def bytes(self, rows: Mapping[Rows, int]) -> int:
        """Bytes of all slots for a batch with so many `rows` of each kind."""
        return sum(slot.bytes(rows) for slot in self.slots)


@dataclass(frozen=True, slots=True)
class Life:
    """From the instruction that first writes a buffer to the last that uses it, both included."""

    first: int
    last: int

    def overlaps(self, other: Life) -> bool:
        """Whether both are needed while some instruction runs."""
        return self.first <= other.last and other.first <= self.last


def plan(program: Program) -> Plan:
    """A slot for every activation of a verified program; no two in a slot live at once.

    Buffers are placed from the widest to the narrowest, each in the first slot that is free for
    its whole life and large enough, or else free, or else a new one.
    """
    living = lives(program)
    slots: list[dict[Rows, int]] = []
    held: list[list[Life]] = []
    slot_of: dict[str, int] = {}
    for buffer in sorted(_activations(program), key=_placing_order):
        life = living[buffer.name]
        slot = _free_slot(slots, held, buffer, life)
        if slot is None:
            slot = len(slots)
            slots.append({})
            held.append([])
        rows = _rows(buffer)
        slots[slot][rows] = max(slots[slot].get(rows, 0), row_bytes(buffer))
        held[slot].append(life)
        slot_of[buffer.name] = slot
    return Plan(tuple(map(Slot, slots)), slot_of)


def lives(program: Program) -> dict[str, Life]:
    """When each activation is needed; one that a batch may ask for lives to the end."""
    found: dict[str, Life] = {}
    for index, instruction in enumerate(program.instructions):
        for operand in (*instruction.reads(), *instruction.writes()):
            if program.buffers[operand.buffer].kind is Kind.ACTIVATION:
                first = found.get(operand.buffer, Life(index, index)).first
                found[operand.buffer] = Life(first, index)
    for operand in program.outputs.values():
        first = found[operand.buffer].first
        found[operand.buffer] = Life(first, len(program.instructions))
    return found


def row_bytes(buffer: Buffer) -> int:
    """Bytes from one row of an activation to the next.

    f32: 4 · columns. int8: the values, up to a multiple of 64, then for each group of 32 columns
    all f32 scales, all f32 scale · sum, all i32 sums. Both up to a multiple of 64.
    """
    if buffer.element is Element.F32:
        return _aligned(4 * buffer.columns)
    groups = -(-buffer.columns // GROUP)
    return buffer.element.terms * _aligned(_aligned(buffer.columns) + GROUP_BYTES * groups)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _activations(program: Program) -> list[Buffer]:
    mentioned = lives(program)
    return [buffer for name, buffer in program.buffers.items() if name in mentioned]


def _rows(buffer: Buffer) -> Rows:
    assert buffer.rows is not None, f"{buffer.name} has no rows"
    return buffer.rows


def _placing_order(buffer: Buffer) -> tuple[int, int]:
    """Rows of tokens are the most, then those selected; wide ones first."""
    return list(Rows).index(_rows(buffer)), -row_bytes(buffer)


def _free_slot(
    slots: list[dict[Rows, int]], held: list[list[Life]], buffer: Buffer, life: Life
) -> int | None:
    """The first slot that is free and need not grow; else the first that is free."""
    free = [i for i, lived in enumerate(held) if not any(life.overlaps(other) for other in lived)]
    fitting = (i for i in free if slots[i].get(_rows(buffer), 0) >= row_bytes(buffer))
    return next(fitting, next(iter(free), None))
