"""Lets adapters change rows where they are: rows of sequences that have none are not touched."""

from __future__ import annotations

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft
from overclock.program.program import Operand, Program

NAME = "adapt_in_place"


def apply(program: Program) -> Program:
    """y = adapt(x, a) → a = adapt(x, a), where nothing wants the old a any more."""
    draft = Draft(program)
    for index, instruction in draft.of(Op.ADAPT):
        a, y = instruction.inputs["a"][0], instruction.outputs["y"][0]
        if a != y and _can_overwrite(draft, a, y, index):
            draft.rehouse(y.buffer, a)
    return draft.program()


def _can_overwrite(draft: Draft, a: Operand, y: Operand, index: int) -> bool:
    """Whether nothing used y before, and nothing uses the columns of `a` afterwards."""
    others = [i for i in draft.users(a.buffer) if i > index]
    return (
        draft.is_whole(y)
        and min(draft.users(y.buffer)) == index
        and not draft.is_output(a.buffer)
        and not draft.is_output(y.buffer)
        and not any(
            a.overlaps(operand)
            for other in others
            for operand in (*draft[other].reads(), *draft[other].writes())
        )
    )
