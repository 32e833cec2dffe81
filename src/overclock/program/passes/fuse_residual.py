"""Adds the residual as a matrix product is written, in place if it can: one pass over the rows."""

from __future__ import annotations

from dataclasses import replace

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft
from overclock.program.program import Element, Instruction, Kind, Operand, Program

NAME = "fuse_residual"


def apply(program: Program) -> Program:
    """matmul, add → matmul with a `residual`; it becomes y if nothing reads it afterwards."""
    draft = Draft(program)
    for index, instruction in draft.of(Op.ADD):
        for product, residual in (("b", "a"), ("a", "b")):
            matmul = _product(draft, instruction.inputs[product][0], index)
            other = instruction.inputs[residual][0]
            if matmul is not None and _can_be_residual(draft, other, instruction):
                _fuse(draft, matmul, index, other)
                break
    return draft.program()


def _product(draft: Draft, operand: Operand, index: int) -> int | None:
    """The matmul that makes the operand for `index` alone, if it could be done there."""
    matmul = draft.producer(operand, Op.MATMUL)
    if matmul is None or "residual" in draft[matmul].inputs:
        return None
    return matmul if draft.can_move(matmul, index) else None


def _can_be_residual(draft: Draft, operand: Operand, add: Instruction) -> bool:
    """Whether the operand is an activation, with the rows of the sum, and not the sum itself."""
    buffer = draft.buffers[operand.buffer]
    y = add.outputs["y"][0]
    return (
        buffer.kind is Kind.ACTIVATION
        and buffer.element is Element.F32
        and buffer.rows is draft.buffers[y.buffer].rows
        and add.inputs["a"] != add.inputs["b"]
    )


def _fuse(draft: Draft, matmul: int, index: int, residual: Operand) -> None:
    old, y = draft[matmul], draft[index].outputs["y"][0]
    draft.drop(matmul)
    draft.drop(index)
    if _can_overwrite(draft, residual, y, index):
        draft.rename(y.buffer, residual)
        y = residual
    inputs = {**old.inputs, "residual": (residual,)}
    draft.put(index, replace(old, inputs=inputs, outputs={"y": (y,)}))


def _can_overwrite(draft: Draft, residual: Operand, y: Operand, index: int) -> bool:
    """Whether the sum may take the residual's place: nothing wants the old value any more."""
    return (
        residual.buffer != y.buffer
        and draft.is_whole(residual)
        and draft.is_whole(y)
        and draft.writer(y.buffer) is None
        and not draft.is_output(residual.buffer)
        and all(reader < index for reader in draft.readers(residual.buffer))
        and not draft.is_written_after(residual.buffer, index)
    )
