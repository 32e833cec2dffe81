"""Makes one instruction of gate, up and their product: x is read once, gate and up never stored."""

from __future__ import annotations

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft
from overclock.program.program import Instruction, Operand, Program
from overclock.program.weights import is_quantized

NAME = "fuse_gate"


def apply(program: Program) -> Program:
    """matmul(x, gate), matmul(x, up), gate → gated_matmul(x, gate, up)."""
    draft = Draft(program)
    for index, instruction in draft.of(Op.GATE):
        gate = _product(draft, instruction.inputs["gate"][0], index)
        up = _product(draft, instruction.inputs["up"][0], index)
        if gate is None or up is None or gate == up:
            continue
        if draft[gate].inputs["x"] == draft[up].inputs["x"] and _alike(draft, gate, up):
            _fuse(draft, gate, up, index)
    return draft.program()


def _product(draft: Draft, operand: Operand, index: int) -> int | None:
    """The bare matmul by one matrix that makes the operand, if it could be done at `index`."""
    matmul = draft.producer(operand, Op.MATMUL)
    if matmul is None:
        return None
    instruction = draft[matmul]
    bare = instruction.inputs.keys() == {"x", "w"} and instruction.attribute("activation") == "none"
    one = len(instruction.inputs["w"]) == 1
    return matmul if bare and one and draft.can_move(matmul, index) else None


def _alike(draft: Draft, gate: int, up: int) -> bool:
    """Whether both matrices are integers or both are floating point."""
    formats = {
        is_quantized(draft.buffers[draft[index].inputs["w"][0].buffer]) for index in (gate, up)
    }
    return len(formats) == 1


def _fuse(draft: Draft, gate: int, up: int, index: int) -> None:
    old = draft[index]
    inputs = {
        "x": draft[gate].inputs["x"],
        "gate": draft[gate].inputs["w"],
        "up": draft[up].inputs["w"],
    }
    fused = Instruction(Op.GATED_MATMUL, inputs, old.outputs, old.attributes, old.layer)
    draft.drop(gate)
    draft.drop(up)
    draft.put(index, fused)
