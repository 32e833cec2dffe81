"""Each way in which a program can be wrong, and what the verifier says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from overclock.errors import ProgramError
from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.isa import Op
from overclock.program.program import Buffer, Element, Kind, Operand, Program, Rows
from overclock.program.verify import verify
from tests.program.bad_instructions import ATTRIBUTES, OPERANDS, SHAPES, TYPES
from tests.program.damage import (
    ENCODER,
    FUSED,
    PLAIN,
    activation,
    find,
    with_buffer,
    with_new,
    with_operand,
)
from tests.program.models import gemma

ROWS: dict[str, tuple[Callable[[], Program], str]] = {
    "tokens where selected are wanted": (
        lambda: with_buffer(PLAIN, "selected", rows=Rows.TOKENS),
        "y has T rows where L are wanted",
    ),
    "mixed": (
        lambda: with_buffer(PLAIN, "0.attn_x", rows=Rows.SELECTED),
        "y has L rows where T are wanted",
    ),
    "pool": (
        lambda: with_buffer(ENCODER, "sentence", rows=Rows.SELECTED),
        "y has L rows where S are wanted",
    ),
}

ORDER: dict[str, tuple[Callable[[], Program], str]] = {
    "read before it is written": (
        lambda: with_operand(PLAIN, Op.ADD, "b", Operand("0.down")),
        "0.down is read before it is written",
    ),
    "columns that nothing has written": (
        lambda: with_operand(
            with_operand(with_buffer(PLAIN, "x", columns=128), Op.EMBED, "y", Operand("x", 0, 64)),
            Op.RMSNORM,
            "x",
            Operand("x", 32, 96),
        ),
        r"x\[32:96\] is read before it is written",
    ),
    "attention before the store": (
        lambda: replace(
            PLAIN, instructions=tuple(i for i in PLAIN.instructions if i.op is not Op.STORE)
        ),
        "cache.0 is read before it is written",
    ),
    "stored twice": (
        lambda: replace(
            PLAIN, instructions=(*PLAIN.instructions, PLAIN.instructions[find(PLAIN, Op.STORE)])
        ),
        "cache.0 is stored to for the second time",
    ),
    "a product in place": (
        lambda: with_operand(
            with_operand(PLAIN, Op.MATMUL, "w", Operand("blk.0.ffn_gate.weight")),
            Op.MATMUL,
            "y",
            Operand("0.attn_norm"),
        ),
        "y has 64 columns, but w asks for 96",
    ),
    "an attention in place": (
        lambda: with_operand(PLAIN, Op.ATTEND, "y", Operand("0.q_rope")),
        "y overlaps q",
    ),
    "half in place": (
        lambda: with_operand(
            with_operand(FUSED, Op.ROPE_STORE, "y", Operand("0.q+k+v", 32, 160)),
            Op.ATTEND,
            "q",
            Operand("0.q+k+v", 32, 160),
        ),
        "y overlaps q",
    ),
}

BUFFERS: dict[str, tuple[Callable[[], Program], str]] = {
    "another name": (
        lambda: with_buffer(PLAIN, "x", name="z"),
        "buffer x of decoder calls itself z",
    ),
    "no columns": (lambda: with_buffer(PLAIN, "x", columns=0), "has 0 columns"),
    "too many columns": (
        lambda: with_buffer(PLAIN, "x", columns=1 << 31),
        "has 2147483648 columns",
    ),
    "no rows": (
        lambda: with_buffer(PLAIN, "x", rows=None),
        "of kind activation and has the rows None",
    ),
    "rows of a weight": (
        lambda: with_buffer(PLAIN, "output_norm.weight", rows=Rows.TOKENS),
        "of kind weight and has the rows T",
    ),
    "an int8 constant": (lambda: with_buffer(PLAIN, "rope", element=Element.I8), "cannot hold i8"),
    "a negative size": (
        lambda: with_buffer(PLAIN, "blk.0.attn_q.weight", shape=(-128, 64)),
        r"impossible shape \[-128, 64\]",
    ),
    "a huge size": (
        lambda: with_buffer(PLAIN, "blk.0.attn_q.weight", shape=(1 << 36, 64)),
        "impossible shape",
    ),
    "three dimensions": (
        lambda: with_buffer(PLAIN, "blk.0.attn_q.weight", shape=(2, 64, 64)),
        r"weight of shape \[2, 64, 64\]",
    ),
    "columns that are not the shape's": (
        lambda: with_buffer(PLAIN, "blk.0.attn_q.weight", columns=32),
        "weight of shape .* with 32 columns",
    ),
    "a quantised vector": (
        lambda: with_buffer(PLAIN, "output_norm.weight", format=Format.Q8_0),
        "one dimension, so it must be held as F32, not Q8_0",
    ),
    "half a block": (
        lambda: with_buffer(FUSED, "blk.0.ffn_down.weight", format=Format.Q6_K),
        "has 96 columns, no multiple of the 256 of Q6_K",
    ),
    "an unknown input": (
        lambda: with_new(PLAIN, Buffer("colours", Kind.INPUT, 1, Rows.TOKENS)),
        "an input that no batch has",
    ),
    "a wide input": (lambda: with_buffer(PLAIN, "token_ids", columns=2), "an input of 2 columns"),
    "a constant without values": (
        lambda: replace(PLAIN, constants={}),
        "buffer rope of decoder has 0 values for 16 columns",
    ),
    "a constant that is not finite": (
        lambda: replace(PLAIN, constants={"rope": (float("inf"),) * 16}),
        "holds a number that is not finite",
    ),
    "a shape of an activation": (
        lambda: with_buffer(PLAIN, "x", shape=(4, 64)),
        "activation with the",
    ),
    "a cache of another shape": (
        lambda: with_buffer(PLAIN, "cache.0", shape=(2, 16)),
        r"cache of shape \[2, 16\] with 64 columns",
    ),
}

PROGRAMS: dict[str, tuple[Callable[[], Program], str]] = {
    "no instructions": (lambda: replace(PLAIN, instructions=()), "no instructions or no outputs"),
    "no outputs": (lambda: replace(PLAIN, outputs={}), "no instructions or no outputs"),
    "no context": (lambda: replace(PLAIN, context=0), "a context of 0 is not possible"),
    "an output that is no buffer": (
        lambda: replace(PLAIN, outputs={"logits": Operand("nowhere")}),
        "output logits of decoder is nowhere, which is no buffer",
    ),
    "an output that is a weight": (
        lambda: replace(PLAIN, outputs={"logits": Operand("output_norm.weight")}),
        "no f32 activation but weight f32",
    ),
    "an output in int8": (
        lambda: replace(FUSED, outputs={"logits": Operand("norm.i8")}),
        "no f32 activation but activation i8",
    ),
    "an output outside its buffer": (
        lambda: replace(PLAIN, outputs={"logits": Operand("logits", 0, 97)}),
        "not inside the 96 columns",
    ),
    "an output that nothing writes": (
        lambda: replace(
            with_new(PLAIN, activation("idle", 8)), outputs={"logits": Operand("idle")}
        ),
        "which no instruction writes",
    ),
}

GROUPS = (OPERANDS, TYPES, ATTRIBUTES, SHAPES, ROWS, ORDER, BUFFERS, PROGRAMS)
CASES = {name: case for group in GROUPS for name, case in group.items()}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    make, message = CASES[name]
    with pytest.raises(ProgramError, match=message):
        verify(make())


def test_a_message_names_the_instruction_and_all_shapes() -> None:
    program = with_operand(PLAIN, Op.MATMUL, "w", Operand("blk.0.attn_k.weight"))
    with pytest.raises(ProgramError) as caught:
        verify(program)
    assert str(caught.value) == (
        "instruction 2 of decoder: y has 128 columns, but w asks for 64; matmul "
        "x=0.attn_norm f32[T, 64], w=blk.0.attn_k.weight F32[64, 64] → y=0.q f32[T, 128]"
    )


@pytest.mark.parametrize("program", [PLAIN, FUSED, ENCODER, compile(gemma())])
def test_good_programs_pass(program: Program) -> None:
    verify(program)


@pytest.mark.parametrize(
    ("op", "source"),
    [(Op.ADD, "a"), (Op.ADD, "b"), (Op.GATE, "gate"), (Op.GATE, "up"), (Op.ROPE, "x")],
)
def test_in_place_where_it_may_be(op: Op, source: str) -> None:
    index = find(PLAIN, op)
    old = PLAIN.instructions[index]
    y, x = old.outputs["y"][0].buffer, old.inputs[source][0]
    swapped = [
        replace(each, inputs={r: tuple(x if o.buffer == y else o for o in g) for r, g in given})
        for each in PLAIN.instructions
        for given in (each.inputs.items(),)
    ]
    swapped[index] = replace(old, outputs={"y": (x,)})
    verify(replace(PLAIN, instructions=tuple(swapped)))
