"""Computes the end of the last layer only for rows whose output is wanted: less work in prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft, rebuilt
from overclock.program.program import Instruction, Kind, Operand, Program, Rows

NAME = "select_early"

ROWWISE = frozenset(
    {
        Op.ADD,
        Op.RMSNORM,
        Op.LAYERNORM,
        Op.MATMUL,
        Op.GATED_MATMUL,
        Op.ADAPT,
        Op.ACTIVATE,
        Op.GATE,
        Op.NORMALIZE,
    }
)
"""Opcodes whose output row depends on the same row of their inputs only."""


def apply(program: Program) -> Program:
    """Move each `select` up past row-wise instructions that serve nothing but selected rows."""
    draft = Draft(program)
    late = _late(draft, program)
    return _Rewriter(draft, late).program(program) if late else program


def _late(draft: Draft, program: Program) -> set[int]:
    """Indices of the row-wise instructions whose every reader works on selected rows."""
    late: set[int] = set()
    for index in range(len(program.instructions) - 1, -1, -1):
        instruction = program.instructions[index]
        if instruction.op in ROWWISE and all(
            _serves_selected(draft, operand.buffer, index, late) for operand in instruction.writes()
        ):
            late.add(index)
    return late


def _serves_selected(draft: Draft, buffer: str, writer: int, late: set[int]) -> bool:
    readers = draft.readers(buffer)
    return (
        draft.buffers[buffer].rows is Rows.TOKENS
        and draft.writer(buffer) == writer
        and not draft.is_output(buffer)
        and bool(readers)
        and all(index in late or _selects_whole(draft, index) for index in readers)
    )


def _selects_whole(draft: Draft, index: int) -> bool:
    instruction = draft[index]
    return instruction.op is Op.SELECT and draft.is_whole(instruction.inputs["x"][0])


class _Rewriter:
    """Writes the instructions anew: late ones on selected rows, selects of late buffers left out.

    A select is put in front of the first late instruction that reads a buffer of all tokens.
    """

    def __init__(self, draft: Draft, late: set[int]) -> None:
        self._draft = draft
        self._late = late
        self._instructions: list[Instruction] = []
        self._renamed: dict[str, str] = {}  # what a left out select wrote → what it read
        self._selected: dict[Operand, Operand] = {}

    def program(self, program: Program) -> Program:
        for index, instruction in enumerate(program.instructions):
            self._take(index, instruction)
        outputs = {name: self._rename(operand) for name, operand in program.outputs.items()}
        return rebuilt(program, tuple(self._instructions), self._draft.buffers, outputs)

    def _take(self, index: int, instruction: Instruction) -> None:
        if index in self._late:
            for operand in instruction.writes():
                buffer = self._draft.buffers[operand.buffer]
                self._draft.buffers[operand.buffer] = replace(buffer, rows=Rows.SELECTED)
            self._append(instruction, partial(self._select, layer=instruction.layer))
        elif instruction.op is Op.SELECT and self._is_late(instruction.inputs["x"][0].buffer):
            y = instruction.outputs["y"][0].buffer
            self._renamed[y] = instruction.inputs["x"][0].buffer
        else:
            self._append(instruction, self._rename)

    def _is_late(self, buffer: str) -> bool:
        return self._draft.writer(buffer) in self._late

    def _append(self, instruction: Instruction, change: Callable[[Operand], Operand]) -> None:
        inputs = {
            role: tuple(change(operand) for operand in operands)
            for role, operands in instruction.inputs.items()
        }
        self._instructions.append(replace(instruction, inputs=inputs))
        written = {operand.buffer for operand in instruction.writes()}
        for operand in [o for o in self._selected if o.buffer in written]:
            del self._selected[operand]

    def _rename(self, operand: Operand) -> Operand:
        name = self._renamed.get(operand.buffer)
        return operand if name is None else replace(operand, buffer=name)

    def _select(self, operand: Operand, layer: int | None) -> Operand:
        """The operand of a late instruction: as it is, or the selected rows of it."""
        buffer = self._draft.buffers[operand.buffer]
        if buffer.kind is not Kind.ACTIVATION or buffer.rows is not Rows.TOKENS:
            return operand
        if operand not in self._selected:
            stop = buffer.columns if operand.stop is None else operand.stop
            columns = stop - operand.start
            y = self._draft.activation(f"{operand}.selected", columns, Rows.SELECTED)
            select = Instruction(Op.SELECT, {"x": (operand,)}, {"y": (Operand(y),)}, layer=layer)
            self._instructions.append(select)
            self._selected[operand] = Operand(y)
        return self._selected[operand]
