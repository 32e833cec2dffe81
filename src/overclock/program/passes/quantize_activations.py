"""Rounds the inputs of matrix products to int8, once for all their readers: integer arithmetic.

One int8 in groups of 32 is a little coarse where errors go straight into the answer. Products over
selected rows (the output head) are bound by reading their weights, so there a second int8 for what
the first leaves costs nothing; it takes a quarter of the divergence from exact mode away.
"""

from __future__ import annotations

from dataclasses import replace

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft, rebuilt
from overclock.program.program import Element, Instruction, Operand, Program, Rows
from overclock.program.weights import is_quantized

NAME = "quantize_activations"

MATRICES = {Op.MATMUL: ("w",), Op.GATED_MATMUL: ("gate", "up")}
"""The roles of the matrices of each product."""


def apply(program: Program) -> Program:
    """Put a `quantize` before each product whose matrices are all in integers."""
    draft = Draft(program)
    instructions: list[Instruction] = []
    rounded: dict[Operand, Operand] = {}
    for instruction in program.instructions:
        if _wants_integers(draft, instruction):
            x = instruction.inputs["x"][0]
            if x not in rounded:
                rounded[x] = _rounded(draft, x, _element(draft, instruction))
                instructions.append(_quantize(x, rounded[x], instruction.layer))
            inputs = {**instruction.inputs, "x": (rounded[x],)}
            instruction = replace(instruction, inputs=inputs)
        instructions.append(instruction)
        written = {operand.buffer for operand in instruction.writes()}
        for x in [x for x in rounded if x.buffer in written]:
            del rounded[x]
    return rebuilt(program, tuple(instructions), draft.buffers, program.outputs)


def _wants_integers(draft: Draft, instruction: Instruction) -> bool:
    roles = MATRICES.get(instruction.op)
    if roles is None or draft.buffers[instruction.inputs["x"][0].buffer].element.terms:
        return False
    return all(
        is_quantized(draft.buffers[operand.buffer])
        for role in roles
        for operand in instruction.inputs[role]
    )


def _quantize(x: Operand, y: Operand, layer: int | None) -> Instruction:
    return Instruction(Op.QUANTIZE, {"x": (x,)}, {"y": (y,)}, layer=layer)


def _element(draft: Draft, instruction: Instruction) -> Element:
    rows = draft.buffers[instruction.inputs["x"][0].buffer].rows
    fine = instruction.op is Op.MATMUL and rows is Rows.SELECTED
    return Element.I8X2 if fine else Element.I8


def _rounded(draft: Draft, x: Operand, element: Element) -> Operand:
    """A new int8 buffer for `x`."""
    buffer = draft.buffers[x.buffer]
    stop = buffer.columns if x.stop is None else x.stop
    return Operand(draft.activation(f"{x}.i8", stop - x.start, buffer.rows, element))
