"""Good programs, and ways to change one thing of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.isa import SIGNATURES, Op
from overclock.program.program import Buffer, Instruction, Kind, Operand, Program, Rows
from tests.program.models import BERT, decoder, encoder

PLAIN = compile(decoder(head_norms=True), passes=[])
FUSED = compile(decoder(format=Format.Q8_0, head_norms=True, biases=True))
ADAPTED = compile(decoder(), passes=[], adapters=["blk.0.attn_q.weight"])
ENCODER = compile(encoder(replace(BERT, head="sequence"), format=Format.Q8_0))


def find(program: Program, op: Op) -> int:
    return next(i for i, each in enumerate(program.instructions) if each.op is op)


def with_instruction(program: Program, index: int, instruction: Instruction) -> Program:
    instructions = list(program.instructions)
    instructions[index] = instruction
    return replace(program, instructions=tuple(instructions))


def with_operand(program: Program, op: Op, role: str, *operands: Operand) -> Program:
    """The first `op` with other operands in a role; with none, without the role."""
    index = find(program, op)
    old = program.instructions[index]

    def changed(roles: Mapping[str, tuple[Operand, ...]]) -> dict[str, tuple[Operand, ...]]:
        kept = {name: given for name, given in roles.items() if name != role}
        return {**kept, role: operands} if operands else kept

    output = role in {name.rstrip("?") for name in SIGNATURES[op].outputs}
    new = (
        replace(old, outputs=changed(old.outputs))
        if output
        else replace(old, inputs=changed(old.inputs))
    )
    return with_instruction(program, index, new)


def with_attribute(program: Program, op: Op, **attributes: object) -> Program:
    index = find(program, op)
    old = program.instructions[index]
    return with_instruction(
        program, index, replace(old, attributes={**old.attributes, **attributes})
    )


def with_buffer(program: Program, buffer: str, **changes: Any) -> Program:
    changed = replace(program.buffers[buffer], **changes)
    return replace(program, buffers={**program.buffers, buffer: changed})


def with_new(program: Program, *buffers: Buffer) -> Program:
    return replace(program, buffers={**program.buffers, **{b.name: b for b in buffers}})


def activation(name: str, columns: int, rows: Rows = Rows.TOKENS) -> Buffer:
    return Buffer(name, Kind.ACTIVATION, columns, rows)
