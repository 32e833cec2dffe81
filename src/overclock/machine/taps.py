"""Which buffers a run can be asked to copy out, and when each of them is complete."""

from __future__ import annotations

from collections.abc import Sequence

from overclock.errors import MachineError
from overclock.program.program import Element, Kind, Program


def tap_writers(program: Program, output: str, taps: Sequence[str]) -> dict[str, int]:
    """Name of each tap → the last instruction of a run for `output` that writes it.

    Raises MachineError for a name that is no f32 activation of that run.
    """
    writers: dict[str, int] = {}
    for index in program.needed_for(output):
        for operand in program.instructions[index].writes():
            buffer = program.buffers[operand.buffer]
            if buffer.kind is Kind.ACTIVATION and buffer.element is Element.F32:
                writers[buffer.name] = index
    for name in taps:
        if name not in writers:
            raise MachineError(
                f"{name!r} cannot be tapped; it must be an f32 activation that {output} needs, "
                "and in exact mode all of them are"
            )
    return {name: writers[name] for name in taps}
