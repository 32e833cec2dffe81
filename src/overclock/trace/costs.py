"""Operations and bytes of every instruction of many ticks, by the cost rules of the program."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from overclock.program.cost import Cost, Load, cost, uses_integers
from overclock.program.isa import Op
from overclock.program.program import Instruction, KvFormat, Operand, Program

Costs = NDArray[np.float64]
"""``f64[instructions, 4]``: operations, then bytes of weights, of activations and of KV."""

BY_SEQUENCE = (Op.STORE, Op.ROPE_STORE, Op.ATTEND, Op.ATTEND_ALL, Op.ADAPT)
"""Opcodes whose cost depends on more than numbers of rows."""


class Coster:
    """The cost rules of one program, quick for many batches: layers are alike, and so are ticks."""

    def __init__(self, program: Program, kv: KvFormat) -> None:
        self.program = program
        self.kv = kv
        self._needed = {output: program.needed_for(output) for output in program.outputs}
        self._alike: dict[Hashable, list[int]] = {}
        for index, instruction in enumerate(program.instructions):
            self._alike.setdefault(_signature(program, instruction), []).append(index)
        self._known: dict[tuple[Hashable, int, int, int], Cost] = {}
        self.integers = np.array(
            [uses_integers(program, each) for each in program.instructions], bool
        )

    def of(self, load: Load, output: str) -> Costs:
        """The cost of each instruction in one run; nothing of those that the output needs not."""
        costs = np.zeros((len(self.program.instructions), 4))
        for signature, indices in self._alike.items():
            spent = self._cost(signature, indices[0], load)
            costs[indices] = (
                spent.operations,
                spent.weight_bytes,
                spent.activation_bytes,
                spent.kv_bytes,
            )
        runs = np.zeros(len(costs), bool)
        runs[list(self._needed[output])] = True
        costs[~runs] = 0.0
        return costs

    def _cost(self, signature: Hashable, index: int, load: Load) -> Cost:
        instruction = self.program.instructions[index]
        if instruction.op in BY_SEQUENCE:
            return cost(self.program, instruction, load, self.kv)
        key = (signature, sum(load.lengths), load.selected, len(load.lengths))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = cost(self.program, instruction, load, self.kv)
        return known


def _signature(program: Program, instruction: Instruction) -> Hashable:
    """What two instructions must have in common to cost the same."""
    roles = (*instruction.inputs.items(), *instruction.outputs.items())
    in_place = instruction.inputs.get("a") == instruction.outputs.get("y")
    return (
        instruction.op,
        tuple(sorted((name, str(value)) for name, value in instruction.attributes.items())),
        tuple((role, tuple(_shape(program, each) for each in given)) for role, given in roles),
        in_place,
    )


def _shape(program: Program, operand: Operand) -> Hashable:
    buffer = program.buffers[operand.buffer]
    columns = program.columns(operand)
    return buffer.kind, buffer.rows, columns, buffer.element, buffer.format, buffer.shape
