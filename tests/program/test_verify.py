"""Each way in which a program can be wrong, and what the verifier says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from overclock.errors import ProgramError
from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.isa import SIGNATURES, Op
from overclock.program.program import Buffer, Element, Instruction, Kind, Operand, Program, Rows
from overclock.program.verify import verify
from tests.program.models import BERT, decoder, encoder, gemma

PLAIN = compile(decoder(head_norms=True), passes=[])
FUSED = compile(decoder(format=Format.Q8_0, head_norms=True, biases=True))
ENCODER = compile(encoder(replace(BERT, head="sequence"), format=Format.Q8_0))


def find(program: Program, op: Op) -> int:
    return next(i for i, each in enumerate(program.instructions) if each.op is op)


def with_instruction(program: Program, index: int, instruction: Instruction) -> Program:
    instructions = list(program.instructions)
    instructions[index] = instruction
    return replace(program, instructions=tuple(instructions))


def with_operand(program: Program, op: Op, role: str, *operands: Operand) -> Program:
    """The first `op` with other operands in a role; with none, without the role."""
    index = find(program, op)
    old = program.instructions[index]

    def changed(roles: Mapping[str, tuple[Operand, ...]]) -> dict[str, tuple[Operand, ...]]:
        kept = {name: given for name, given in roles.items() if name != role}
        return {**kept, role: operands} if operands else kept

    output = role in {name.rstrip("?") for name in SIGNATURES[op].outputs}
    new = (
        replace(old, outputs=changed(old.outputs))
        if output
        else replace(old, inputs=changed(old.inputs))
    )
    return with_instruction(program, index, new)


def with_attribute(program: Program, op: Op, **attributes: object) -> Program:
    index = find(program, op)
    old = program.instructions[index]
    return with_instruction(
        program, index, replace(old, attributes={**old.attributes, **attributes})
    )


def with_buffer(program: Program, buffer: str, **changes: Any) -> Program:
    changed = replace(program.buffers[buffer], **changes)
    return replace(program, buffers={**program.buffers, buffer: changed})


def with_new(program: Program, *buffers: Buffer) -> Program:
    return replace(program, buffers={**program.buffers, **{b.name: b for b in buffers}})


def activation(name: str, columns: int, rows: Rows = Rows.TOKENS) -> Buffer:
    return Buffer(name, Kind.ACTIVATION, columns, rows)


OPERANDS: dict[str, tuple[Callable[[], Program], str]] = {
    "unknown buffer": (
        lambda: with_operand(PLAIN, Op.MATMUL, "x", Operand("nowhere")),
        "there is no buffer nowhere",
    ),
    "missing role": (lambda: with_operand(PLAIN, Op.ADD, "b"), "no b; add"),
    "missing output": (lambda: with_operand(PLAIN, Op.MATMUL, "y"), "no y; matmul"),
    "unknown role": (
        lambda: with_operand(PLAIN, Op.ADD, "c", Operand("x")),
        "the opcode has no operand c",
    ),
    "two operands": (
        lambda: with_operand(PLAIN, Op.ADD, "b", Operand("x"), Operand("x")),
        "b takes one operand, not 2",
    ),
    "slice past the end": (
        lambda: with_operand(PLAIN, Op.ADD, "a", Operand("x", 1, 65)),
        r"x\[1:65\] is not inside the 64 columns",
    ),
    "empty slice": (
        lambda: with_operand(PLAIN, Op.ADD, "a", Operand("x", 8, 8)),
        r"x\[8:8\] is not inside",
    ),
    "negative slice": (
        lambda: with_operand(PLAIN, Op.ADD, "a", Operand("x", -8, 8)),
        r"x\[-8:8\] is not inside",
    ),
    "part of a weight": (
        lambda: with_operand(PLAIN, Op.MATMUL, "w", Operand("blk.0.attn_q.weight", 0, 32)),
        "can only be used whole",
    ),
    "part of an int8 row": (
        lambda: with_operand(FUSED, Op.MATMUL, "x", Operand("0.attn_norm.i8", 0, 32)),
        "can only be used whole",
    ),
    "an activation as a weight": (
        lambda: with_operand(PLAIN, Op.MATMUL, "w", Operand("x")),
        "w must be a weight of two dimensions, but x is of kind activation",
    ),
    "a matrix as a vector": (
        lambda: with_operand(PLAIN, Op.RMSNORM, "w", Operand("blk.0.attn_q.weight")),
        "w must be a weight of one dimension",
    ),
    "a matrix as a bias": (
        lambda: with_operand(PLAIN, Op.ADD, "b", Operand("blk.0.attn_q.weight")),
        "b must be an activation or a weight of one dimension",
    ),
    "a weight is written": (
        lambda: with_operand(PLAIN, Op.RMSNORM, "y", Operand("output_norm.weight")),
        "y must be of kind activation, but output_norm.weight is of kind weight",
    ),
    "ids that are no integers": (
        lambda: with_operand(PLAIN, Op.EMBED, "ids", Operand("x")),
        "ids must be of kind input",
    ),
    "frequencies that are no constant": (
        lambda: with_operand(PLAIN, Op.ROPE, "frequencies", Operand("output_norm.weight")),
        "frequencies must be of kind constant",
    ),
}

TYPES: dict[str, tuple[Callable[[], Program], str]] = {
    "int8 into a norm": (
        lambda: with_operand(FUSED, Op.ATTEND, "q", Operand("0.attn_norm.i8")),
        "q cannot be int8",
    ),
    "int8 out of an add": (
        lambda: with_buffer(PLAIN, "0.attn_x", element=Element.I8),
        "y cannot be int8",
    ),
    "f32 out of a quantize": (
        lambda: with_operand(with_new(FUSED, activation("f", 64)), Op.RMSNORM, "q", Operand("f")),
        "q must be int8",
    ),
    "int8 times floats": (
        lambda: with_buffer(FUSED, "blk.0.attn_q.weight", format=Format.F16),
        "x is int8, so w blk.0.attn_q.weight cannot be floating point",
    ),
    "int8 in an exact program": (
        lambda: replace(FUSED, exact=True),
        "x is int8, but the program is exact",
    ),
}

ATTRIBUTES: dict[str, tuple[Callable[[], Program], str]] = {
    "unknown": (
        lambda: with_attribute(PLAIN, Op.ADD, colour="red"),
        "the opcode has no attribute colour",
    ),
    "missing": (
        lambda: with_instruction(
            PLAIN,
            find(PLAIN, Op.ROPE),
            replace(PLAIN.instructions[find(PLAIN, Op.ROPE)], attributes={"heads": 4}),
        ),
        "the attribute style is missing",
    ),
    "of another type": (
        lambda: with_attribute(PLAIN, Op.ROPE, heads="4"),
        "heads must be int, not '4'",
    ),
    "true is no number": (
        lambda: with_attribute(PLAIN, Op.STORE, heads=True),
        "heads must be int, not True",
    ),
    "no head": (lambda: with_attribute(PLAIN, Op.ROPE, heads=0), "heads cannot be 0"),
    "negative window": (
        lambda: with_attribute(PLAIN, Op.ATTEND, window=-1),
        "window cannot be -1",
    ),
    "not finite": (
        lambda: with_attribute(PLAIN, Op.RMSNORM, epsilon=float("nan")),
        "epsilon cannot be nan",
    ),
    "unknown activation": (
        lambda: with_attribute(PLAIN, Op.GATE, activation="swish"),
        "activation must be one of none, silu, .*, not 'swish'",
    ),
    "unknown style": (
        lambda: with_attribute(PLAIN, Op.ROPE, style="round"),
        "style must be one of halves, interleaved, not 'round'",
    ),
}

SHAPES: dict[str, tuple[Callable[[], Program], str]] = {
    "matrix and x": (
        lambda: with_operand(PLAIN, Op.MATMUL, "w", Operand("blk.0.ffn_down.weight")),
        "w blk.0.ffn_down.weight has 96 columns, but x has 64",
    ),
    "matrix and y": (
        lambda: with_operand(PLAIN, Op.MATMUL, "w", Operand("blk.0.attn_k.weight")),
        "y has 128 columns, but w asks for 64",
    ),
    "bias": (
        lambda: with_operand(FUSED, Op.MATMUL, "bias", Operand("blk.0.attn_q.bias")),
        "bias has 128 columns, but w asks for 256",
    ),
    "gate and up": (
        lambda: with_operand(FUSED, Op.GATED_MATMUL, "up", Operand("blk.0.attn_q.weight")),
        "gate has 96 rows, but up has 128",
    ),
    "add": (
        lambda: with_operand(PLAIN, Op.ADD, "a", Operand("0.q")),
        "b has 64 columns, but a asks for 128",
    ),
    "norm": (
        lambda: with_operand(PLAIN, Op.RMSNORM, "w", Operand("blk.0.attn_q_norm.weight")),
        "w has 32 columns, but a head of x asks for 64",
    ),
    "heads of a norm": (
        lambda: with_attribute(PLAIN, Op.RMSNORM, heads=3),
        "x has 64 columns, which 3 heads do not divide",
    ),
    "frequencies": (
        lambda: with_attribute(PLAIN, Op.ROPE, heads=2),
        "16 frequencies do not turn the 64 columns of a head",
    ),
    "heads of a cache": (
        lambda: with_attribute(PLAIN, Op.STORE, heads=4),
        "the cache has 2 heads, not 4",
    ),
    "stored columns": (
        lambda: with_operand(PLAIN, Op.STORE, "v", Operand("0.q")),
        "v has 128 columns, but the cache asks for 64",
    ),
    "kv heads of an attention": (
        lambda: with_attribute(PLAIN, Op.ATTEND, kv_heads=4),
        "the cache has 2 heads, not 4",
    ),
    "head width of an attention": (
        lambda: with_attribute(PLAIN, Op.ATTEND, heads=2),
        "heads of q have 64 columns, those of the cache 32",
    ),
    "uneven sharing of heads": (
        lambda: with_operand(
            with_attribute(PLAIN, Op.ATTEND, heads=3), Op.ATTEND, "q", Operand("0.q_rope", 0, 96)
        ),
        "2 heads of k do not divide 3 heads of q",
    ),
    "table": (
        lambda: replace(PLAIN, vocabulary=97),
        "the table has 96 rows, but ids plus offset need 97",
    ),
    "positions": (
        lambda: replace(ENCODER, context=41),
        "the table has 40 rows, but ids plus offset need 41",
    ),
    "norms without output": (
        lambda: with_operand(FUSED, Op.RMSNORM, "q"),
        "neither of the outputs y and q",
    ),
    "attend_all": (
        lambda: with_operand(ENCODER, Op.ATTEND_ALL, "v", Operand("0.q+k+v", 0, 128)),
        "v has 128 columns, but q asks for 64",
    ),
}

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
