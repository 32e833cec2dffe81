"""Adds what adapters change behind the residual: the product before it can take the residual in."""

from __future__ import annotations

from dataclasses import replace

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft
from overclock.program.program import Instruction, Kind, Operand, Program

NAME = "adapt_late"


def apply(program: Program) -> Program:
    """p = adapt(x, a), add(r, p) → s = add(r, a), adapt(x, s): the same sum in another order."""
    draft = Draft(program)
    for index, add in draft.of(Op.ADD):
        for role, other in (("b", "a"), ("a", "b")):
            adapt = draft.producer(add.inputs[role][0], Op.ADAPT)
            if adapt is not None and _can_swap(draft, adapt, index, add.inputs[other][0]):
                _swap(draft, adapt, index, role)
                break
    return draft.program()


def _can_swap(draft: Draft, adapt: int, add: int, residual: Operand) -> bool:
    """Whether each could be done at the other's place, on rows of the same kind."""
    y = draft.buffers[draft[add].outputs["y"][0].buffer]
    other = draft.buffers[residual.buffer]
    return (
        other.kind is Kind.ACTIVATION
        and other.rows is y.rows
        and draft.can_move(adapt, add)
        and not draft.is_written_between([residual.buffer], adapt, add)
        and draft[add].inputs["a"] != draft[add].inputs["b"]
    )


def _swap(draft: Draft, adapt: int, index: int, role: str) -> None:
    """The sum goes where the adapter's instruction was, and that to the place of the sum."""
    old, add = draft[adapt], draft[index]
    y = draft.buffers[add.outputs["y"][0].buffer]
    summed = Operand(draft.activation(f"{y.name}_base", y.columns, y.rows))
    inputs = {**add.inputs, role: old.inputs["a"]}
    late = Instruction(
        Op.ADAPT,
        {"x": old.inputs["x"], "a": (summed,)},
        add.outputs,
        old.attributes,
        old.layer,
    )
    draft.put(index, late)
    draft.put(adapt, replace(add, inputs=inputs, outputs={"y": (summed,)}))
