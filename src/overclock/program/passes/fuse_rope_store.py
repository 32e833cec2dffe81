"""Norms, turns and stores q and k in one instruction: each head is touched only once."""

from __future__ import annotations

from dataclasses import dataclass

from overclock.program.isa import Op
from overclock.program.passes.draft import Draft
from overclock.program.program import Instruction, Operand, Program

NAME = "fuse_rope_store"


@dataclass(frozen=True, slots=True)
class _Turned:
    """A rope, with the norm in front of it if there is one, and what goes in."""

    x: Operand
    rope: Instruction
    norm: Instruction | None
    indices: tuple[int, ...]


def apply(program: Program) -> Program:
    """[rmsnorm,] rope of q, [rmsnorm,] rope of k, store → rope_store, in place on q if it can."""
    draft = Draft(program)
    for index, store in draft.of(Op.STORE):
        k = _turned(draft, store.inputs["k"][0], index)
        q = _query(draft, store, index)
        if q is not None and k is not None and _alike(q, k):
            _fuse(draft, index, q, k)
    return draft.program()


def _turned(draft: Draft, operand: Operand, index: int) -> _Turned | None:
    """The rope that makes the operand, if it and its norm could be done at `index`."""
    rope = draft.producer(operand, Op.ROPE)
    if rope is None or not draft.can_move(rope, index):
        return None
    x = draft[rope].inputs["x"][0]
    norm = draft.producer(x, Op.RMSNORM)
    if norm is None or not _is_head_norm(draft, norm, rope) or not draft.can_move(norm, index):
        return _Turned(x, draft[rope], None, (rope,))
    return _Turned(draft[norm].inputs["x"][0], draft[rope], draft[norm], (norm, rope))


def _is_head_norm(draft: Draft, norm: int, rope: int) -> bool:
    heads = draft[norm].attribute("heads") == draft[rope].attribute("heads")
    return heads and "q" not in draft[norm].outputs


def _query(draft: Draft, store: Instruction, index: int) -> _Turned | None:
    """The rope of the q that attends to the stored keys."""
    readers = draft.readers(store.outputs["cache"][0].buffer)
    if len(readers) != 1 or draft[readers[0]].op is not Op.ATTEND:
        return None
    return _turned(draft, draft[readers[0]].inputs["q"][0], index)


def _alike(q: _Turned, k: _Turned) -> bool:
    """Whether one instruction can turn both: the same angles, the same epsilon of the norms."""
    epsilons = {turned.norm.attribute("epsilon") for turned in (q, k) if turned.norm}
    return (
        q.indices != k.indices
        and q.rope.inputs["frequencies"] == k.rope.inputs["frequencies"]
        and q.rope.attribute("style") == k.rope.attribute("style")
        and len(epsilons) <= 1
    )


def _fuse(draft: Draft, index: int, q: _Turned, k: _Turned) -> None:
    store = draft[index]
    inputs = {"q": (q.x,), "k": (k.x,), "v": store.inputs["v"]}
    inputs["frequencies"] = q.rope.inputs["frequencies"]
    attributes = {
        "heads": q.rope.attribute("heads"),
        "kv_heads": store.attribute("heads"),
        "style": q.rope.attribute("style"),
    }
    for role, turned in (("q_norm", q), ("k_norm", k)):
        if turned.norm is not None:
            inputs[role] = turned.norm.inputs["w"]
            attributes["epsilon"] = turned.norm.attribute("epsilon")
    for old in (*q.indices, *k.indices, index):
        draft.drop(old)
    y = q.rope.outputs["y"][0]
    if _can_overwrite(draft, q.x, index):
        draft.rename(y.buffer, q.x)
        y = q.x
    outputs = {"y": (y,), "cache": store.outputs["cache"]}
    draft.put(index, Instruction(Op.ROPE_STORE, inputs, outputs, attributes, store.layer))


def _can_overwrite(draft: Draft, q: Operand, index: int) -> bool:
    """Whether no instruction wants the old q any more. Other columns of its buffer do not count."""
    return not draft.is_output(q.buffer) and not any(
        q.overlaps(operand)
        for reader in draft.readers(q.buffer)
        if reader > index
        for operand in draft[reader].reads()
    )
