"""Operands and instructions as one line of text, also of programs that are not well formed."""

from __future__ import annotations

from collections.abc import Mapping

from overclock.program.program import Buffer, Instruction, Kind, Operand, Program


def operand(program: Program, operand: Operand) -> str:
    """An operand with its shape: ``x f32[T, 576]``, ``blk.0.attn_q.weight Q4_1[576, 576]``."""
    buffer = program.buffers.get(operand.buffer)
    return f"{operand} ?" if buffer is None else f"{operand} {shape(buffer, operand)}"


def shape(buffer: Buffer, operand: Operand) -> str:
    """Element type or format and shape of an operand."""
    if buffer.kind is Kind.ACTIVATION:
        stop = buffer.columns if operand.stop is None else operand.stop
        return f"{buffer.element}[{buffer.rows or '?'}, {stop - operand.start}]"
    if buffer.kind is Kind.INPUT:
        return f"i32[{buffer.rows or '?'}]"
    sizes = ", ".join(map(str, buffer.shape))
    return f"kv[{sizes}]" if buffer.kind is Kind.CACHE else f"{buffer.format}[{sizes}]"


def operands(program: Program, roles: Mapping[str, tuple[Operand, ...]]) -> str:
    """Operands by role, as in ``x=0.norm f32[T, 576], w=…``."""
    return ", ".join(
        f"{role}={' | '.join(operand(program, each) for each in given)}"
        for role, given in roles.items()
    )


def instruction(program: Program, instruction: Instruction) -> str:
    """Opcode, outputs, inputs and attributes."""
    attributes = "".join(f", {name}={value}" for name, value in instruction.attributes.items())
    outputs = operands(program, instruction.outputs)
    return f"{instruction.op} {operands(program, instruction.inputs)}{attributes} → {outputs}"
