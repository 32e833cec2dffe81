"""Makes one matrix product of those with the same input (q, k, v): fewer, larger instructions."""

from __future__ import annotations

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft
from overclock.program.program import Instruction, Operand, Program
from overclock.program.weights import is_quantized

NAME = "merge_projections"


def apply(program: Program) -> Program:
    """matmul(x, a), matmul(x, b) → matmul(x, [a, b]), whose columns the readers take apart."""
    draft = Draft(program)
    groups: dict[object, list[int]] = {}
    for index, instruction in draft.of(Op.MATMUL):
        if _can_merge(draft, instruction):
            groups.setdefault(_likeness(draft, instruction), []).append(index)
    for indices in groups.values():
        while len(indices) > 1:
            together = [i for i in indices if draft.can_move(i, indices[0]) or i == indices[0]]
            indices = [i for i in indices if i not in together]
            _merge(draft, together)
    return draft.program()


def _can_merge(draft: Draft, instruction: Instruction) -> bool:
    y = instruction.outputs["y"][0]
    return (
        "residual" not in instruction.inputs
        and instruction.attribute("activation") == "none"
        and draft.is_whole(y)
        and draft.writer(y.buffer) is not None
        and not draft.is_output(y.buffer)
    )


def _likeness(draft: Draft, instruction: Instruction) -> object:
    """What must be the same for two products to be one: input, kind of numbers, having a bias."""
    kinds = {is_quantized(draft.buffers[w.buffer]) for w in instruction.inputs["w"]}
    return instruction.inputs["x"], frozenset(kinds), "bias" in instruction.inputs


def _merge(draft: Draft, indices: list[int]) -> None:
    """One matmul in the place of the first, which writes the columns of all."""
    if len(indices) < 2:
        return
    parts = [draft[index] for index in indices]
    outputs = [draft.buffers[part.outputs["y"][0].buffer] for part in parts]
    name = _joined([output.name for output in outputs])
    y = draft.activation(name, sum(o.columns for o in outputs), outputs[0].rows)
    inputs = {
        role: parts[0].inputs[role] if role == "x" else tuple(_all(parts, role))
        for role in parts[0].inputs
    }
    start = 0
    for index, output in zip(indices, outputs, strict=True):
        draft.drop(index)
        draft.rename(output.name, Operand(y, start, start + output.columns))
        start += output.columns
    merged = Instruction(Op.MATMUL, inputs, {"y": (Operand(y),)}, {}, parts[0].layer)
    draft.put(indices[0], merged)


def _all(parts: list[Instruction], role: str) -> list[Operand]:
    return [operand for part in parts for operand in part.inputs[role]]


def _joined(names: list[str]) -> str:
    """3.q, 3.k, 3.v → 3.q+k+v"""
    return "+".join([names[0], *(name.rpartition(".")[2] for name in names[1:])])
