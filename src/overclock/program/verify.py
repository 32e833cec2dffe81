"""Refuses a program that is not well formed."""

from __future__ import annotations

from overclock.program.program import Program


def verify(program: Program) -> None:
    """Raise ProgramError if a machine could not run `program`."""
    if not program.instructions:
        from overclock.errors import ProgramError

        raise ProgramError(f"{program.name} has no instructions; a program needs at least one")
