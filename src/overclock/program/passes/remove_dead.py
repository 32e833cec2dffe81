"""Leaves out what no output depends on."""

from __future__ import annotations

from overclock.program.passes.draft import rebuilt
from overclock.program.program import Program

NAME = "remove_dead"


def apply(program: Program) -> Program:
    """Keep the instructions that some output needs."""
    needed = {index for output in program.outputs for index in program.needed_for(output)}
    instructions = tuple(program.instructions[index] for index in sorted(needed))
    return rebuilt(program, instructions, program.buffers, program.outputs)
