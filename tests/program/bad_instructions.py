"""Programs with one bad instruction, and what the refusal must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from overclock.model.formats import Format
from overclock.program.isa import Op
from overclock.program.program import Element, Operand, Program, Rows
from tests.program.damage import (
    ADAPTED,
    ENCODER,
    FUSED,
    PLAIN,
    activation,
    find,
    with_attribute,
    with_buffer,
    with_instruction,
    with_new,
    with_operand,
)

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
    "site without a name": (
        lambda: with_attribute(ADAPTED, Op.ADAPT, site=""),
        "its site has no name",
    ),
    "site that is no name": (
        lambda: with_attribute(ADAPTED, Op.ADAPT, site=3),
        "site must be str, not 3",
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
    "adapter": (
        lambda: with_operand(ADAPTED, Op.ADAPT, "a", Operand("0.k")),
        "y has 128 columns, but a asks for 64",
    ),
    "rows of an adapter": (
        lambda: with_operand(
            with_new(ADAPTED, activation("s", 64, Rows.SELECTED)), Op.ADAPT, "x", Operand("s")
        ),
        "x has L rows where T are wanted",
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
