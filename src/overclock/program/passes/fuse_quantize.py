"""Lets the producer of a row write it as int8: the f32 row is not stored, or not read again."""

from __future__ import annotations

from dataclasses import replace

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft
from overclock.program.program import GROUP, Element, Instruction, Operand, Program

NAME = "fuse_quantize"

NORMS = frozenset({Op.RMSNORM, Op.LAYERNORM})
"""Opcodes that may give a row both as f32 and as int8."""

PRODUCERS = frozenset({Op.MATMUL, Op.GATED_MATMUL, Op.ATTEND, Op.ATTEND_ALL, Op.ACTIVATE, Op.GATE})
"""Opcodes that may give their row as int8 in place of f32."""


def apply(program: Program) -> Program:
    """producer, quantize → producer that writes int8; norms keep y if something else reads it."""
    draft = Draft(program)
    for index, quantize in draft.of(Op.QUANTIZE):
        x = quantize.inputs["x"][0]
        writer = draft.source(x, index)
        if writer is None or not draft.is_whole(x):
            continue
        readers = draft.value_readers(x.buffer, writer)
        alone = readers == [index] and not draft.is_output(x.buffer)
        fused = _fused(draft, draft[writer], quantize.outputs["y"], alone)
        if fused is not None:
            draft.drop(index)
            draft.put(writer, fused)
    return draft.program()


def _fused(
    draft: Draft, instruction: Instruction, rounded: tuple[Operand, ...], alone: bool
) -> Instruction | None:
    """The instruction, writing `rounded` as well, or instead if `alone`; None if it cannot."""
    if instruction.op in NORMS and "q" not in instruction.outputs:
        if instruction.attribute("heads") != 1:
            return None
        kept = {} if alone else {"y": instruction.outputs["y"]}
        return replace(instruction, outputs={**kept, "q": rounded})
    single = draft.buffers[rounded[0].buffer].element is Element.I8
    if (
        alone
        and single
        and instruction.op in PRODUCERS
        and _writes_whole_groups(draft, instruction)
    ):
        return replace(instruction, outputs={"y": rounded})
    return None


def _writes_whole_groups(draft: Draft, instruction: Instruction) -> bool:
    """Whether no two heads of an attention share a group of columns that are rounded together."""
    if instruction.op not in (Op.ATTEND, Op.ATTEND_ALL):
        return "residual" not in instruction.inputs
    heads = instruction.attribute("heads")
    columns = draft.buffers[instruction.outputs["y"][0].buffer].columns
    return isinstance(heads, int) and columns % (heads * GROUP) == 0
