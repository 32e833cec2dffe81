"""Applies an activation as its matrix product is written: the row is not read again."""

from __future__ import annotations

from dataclasses import replace

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft
from overclock.program.program import Program

NAME = "fuse_activation"


def apply(program: Program) -> Program:
    """matmul, activate → matmul with the attribute `activation`."""
    draft = Draft(program)
    for index, instruction in draft.of(Op.ACTIVATE):
        matmul = draft.producer(instruction.inputs["x"][0], Op.MATMUL)
        if matmul is None or not draft.can_move(matmul, index):
            continue
        old = draft[matmul]
        if "residual" in old.inputs or old.attribute("activation") != "none":
            continue
        attributes = {**old.attributes, "activation": instruction.attribute("activation")}
        draft.drop(matmul)
        draft.put(index, replace(old, outputs=instruction.outputs, attributes=attributes))
    return draft.program()
