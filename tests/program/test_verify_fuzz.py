"""However a good program is damaged, the verifier accepts it or raises ProgramError."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from overclock.errors import ProgramError
from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.cost import Load, total
from overclock.program.isa import OPTIONAL_ATTRIBUTES, SIGNATURES, Op
from overclock.program.listing import Listing
from overclock.program.plan import plan
from overclock.program.program import Buffer, Element, Instruction, Kind, Operand, Program, Rows
from overclock.program.verify import verify
from tests.program.models import BERT, decoder, encoder, gemma

GOOD = [
    compile(decoder(format=Format.Q8_0, head_norms=True, biases=True)),
    compile(gemma(), passes=[]),
    compile(encoder(replace(BERT, head="sequence", normalize=True)), weight_format=Format.I8),
    compile(encoder(replace(BERT, head="masked_lm")), passes=[]),
    compile(decoder(), adapters=["blk.0.attn_q.weight", "blk.1.ffn_down.weight"]),
]

numbers = st.sampled_from([-(1 << 63), -1, 0, 1, 2, 3, 16, 31, 32, 64, 128, 1 << 31, 1 << 63])
ROLES = sorted(
    {role.rstrip("?*") for each in SIGNATURES.values() for role in (*each.inputs, *each.outputs)}
)
ATTRIBUTES = sorted({*OPTIONAL_ATTRIBUTES, "site", "style", "method", "kv_heads", "colour"})
values: st.SearchStrategy[object] = st.one_of(
    numbers,
    st.floats(),
    st.booleans(),
    st.none(),
    st.sampled_from(["none", "silu", "halves", "interleaved", "mean", "first", "", "?"]),
    st.just(()),
)


@st.composite
def operands(draw: st.DrawFn, program: Program) -> Operand:
    name = draw(st.sampled_from([*program.buffers, "nowhere", ""]))
    if draw(st.booleans()):
        return Operand(name)
    return Operand(name, draw(numbers), draw(st.one_of(st.none(), numbers)))


@st.composite
def roles(
    draw: st.DrawFn, program: Program, old: Mapping[str, tuple[Operand, ...]]
) -> dict[str, tuple[Operand, ...]]:
    role = draw(st.sampled_from([*old, *ROLES]))
    given = draw(st.lists(operands(program), max_size=3))
    return {**old, role: tuple(given)}


@st.composite
def instructions(draw: st.DrawFn, program: Program, old: Instruction) -> Instruction:
    part = draw(st.sampled_from(["op", "inputs", "outputs", "attributes", "drop"]))
    if part == "op":
        return replace(old, op=draw(st.sampled_from(Op)))
    if part == "inputs":
        return replace(old, inputs=draw(roles(program, old.inputs)))
    if part == "outputs":
        return replace(old, outputs=draw(roles(program, old.outputs)))
    if part == "drop":
        empty: dict[str, Any] = {draw(st.sampled_from(["inputs", "outputs", "attributes"])): {}}
        return replace(old, **empty)
    name = draw(st.sampled_from(ATTRIBUTES))
    return replace(old, attributes={**old.attributes, name: draw(values)})


FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["x", "z", ""]),
    "kind": st.sampled_from(Kind),
    "columns": numbers,
    "rows": st.one_of(st.none(), st.sampled_from(Rows)),
    "element": st.sampled_from(Element),
    "shape": st.lists(numbers, max_size=3).map(tuple),
    "format": st.sampled_from(Format),
}


@st.composite
def damaged(draw: st.DrawFn) -> Program:
    program = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 3))):
        program = draw(st.one_of([each(program) for each in DAMAGES]))
    return program


@st.composite
def damaged_instruction(draw: st.DrawFn, program: Program) -> Program:
    if not program.instructions:
        return program
    index = draw(st.integers(0, len(program.instructions) - 1))
    changed = list(program.instructions)
    changed[index] = draw(instructions(program, changed[index]))
    return replace(program, instructions=tuple(changed))


@st.composite
def damaged_order(draw: st.DrawFn, program: Program) -> Program:
    kept = list(program.instructions)
    if not kept:
        return program
    first = draw(st.integers(0, len(kept) - 1))
    moved = kept.pop(first)
    if draw(st.booleans()):
        kept.insert(draw(st.integers(0, len(kept))), moved)
    return replace(program, instructions=tuple(kept))


@st.composite
def damaged_buffer(draw: st.DrawFn, program: Program) -> Program:
    name = draw(st.sampled_from(sorted(program.buffers)))
    field = draw(st.sampled_from([each.name for each in fields(Buffer)]))
    buffer = replace(program.buffers[name], **{field: draw(FIELDS[field])})
    return replace(program, buffers={**program.buffers, name: buffer})


@st.composite
def damaged_rest(draw: st.DrawFn, program: Program) -> Program:
    part = draw(st.sampled_from(["outputs", "constants", "context", "vocabulary", "exact"]))
    if part == "outputs":
        return replace(program, outputs={"logits": draw(operands(program))})
    if part == "constants":
        floats = st.lists(st.floats(), max_size=16).map(tuple)
        return replace(program, constants={"rope": draw(floats)})
    if part == "exact":
        return replace(program, exact=not program.exact)
    changes: dict[str, Any] = {part: draw(numbers)}
    return replace(program, **changes)


DAMAGES = (damaged_instruction, damaged_order, damaged_buffer, damaged_rest)


@settings(max_examples=400)
@given(program=damaged())
def test_a_damaged_program_is_refused_or_usable(program: Program) -> None:
    with suppress(ProgramError):
        verify(program)
        plan(program)
        total(program, Load((3,), (0,), 1))
        Listing(program, Load((3,), (0,), 1)).text()
