"""The instruction set: what each opcode takes, gives and costs.

An opcode means plain tensor mathematics over rows. T is the number of tokens in the batch, L the
number of rows whose output is wanted, S the number of sequences. Layouts, threads and number
formats inside are a machine's own business.

Attributes that fused instructions carry (`activation`, `residual` …) are listed with the opcode:
a fused instruction is the same opcode with one more operand or attribute, never a new meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Op(StrEnum):
    """An opcode."""

    EMBED = "embed"
    ADD = "add"
    RMSNORM = "rmsnorm"
    LAYERNORM = "layernorm"
    QUANTIZE = "quantize"
    MATMUL = "matmul"
    GATED_MATMUL = "gated_matmul"
    ADAPT = "adapt"
    ACTIVATE = "activate"
    GATE = "gate"
    ROPE = "rope"
    STORE = "store"
    ROPE_STORE = "rope_store"
    ATTEND = "attend"
    ATTEND_ALL = "attend_all"
    SELECT = "select"
    POOL = "pool"
    NORMALIZE = "normalize"


@dataclass(frozen=True, slots=True)
class Signature:
    """The roles of an opcode's operands and the names of its attributes.

    A role that ends in ``?`` may be left out; one that ends in ``*`` takes one operand or more,
    whose columns are laid side by side.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, type]
    meaning: str


SIGNATURES: dict[Op, Signature] = {
    Op.EMBED: Signature(
        ("ids", "table"),
        ("y",),
        {"scale": float, "offset": int},
        "y[t] = scale · table[ids[t] + offset]; ids is one of the integer inputs",
    ),
    Op.ADD: Signature(("a", "b"), ("y",), {}, "y = a + b; b may be one row for all (a bias)"),
    Op.RMSNORM: Signature(
        ("x", "w"),
        ("y?", "q?"),
        {"epsilon": float, "heads": int},
        "y = x / sqrt(mean(x²) + epsilon) · w over each of `heads` equal parts of the row; "
        "q is y quantised; one of the two at least",
    ),
    Op.LAYERNORM: Signature(
        ("x", "w", "b"),
        ("y?", "q?"),
        {"epsilon": float},
        "y = (x − mean(x)) / sqrt(var(x) + epsilon) · w + b; q is y quantised; one of the two "
        "at least",
    ),
    Op.QUANTIZE: Signature(
        ("x",),
        ("y",),
        {},
        "y = int8 of x in groups of 32 columns, each with scale max|x| / 127, to nearest even",
    ),
    Op.MATMUL: Signature(
        ("x", "w*", "bias*?", "residual?"),
        ("y",),
        {"activation": str},
        "y = activation(x · [w…]ᵀ + [bias…]) + residual; w is (out, in)",
    ),
    Op.GATED_MATMUL: Signature(
        ("x", "gate", "up"),
        ("y",),
        {"activation": str},
        "y = activation(x · gateᵀ) · (x · upᵀ), elementwise",
    ),
    Op.ADAPT: Signature(
        ("x", "a"),
        ("y",),
        {"site": str},
        "y[t] = a[t] + scale · (x[t] · Aᵀ) · Bᵀ with the matrices that the adapter of the row's "
        "sequence has for the weight `site`; y[t] = a[t] where there is none; y may be a",
    ),
    Op.ACTIVATE: Signature(("x",), ("y",), {"activation": str}, "y = activation(x)"),
    Op.GATE: Signature(
        ("gate", "up"), ("y",), {"activation": str}, "y = activation(gate) · up, elementwise"
    ),
    Op.ROPE: Signature(
        ("x", "frequencies"),
        ("y",),
        {"heads": int, "style": str},
        "each head's pairs of columns are turned by position · frequency; y may be x",
    ),
    Op.STORE: Signature(
        ("k", "v"),
        ("cache",),
        {"heads": int},
        "k and v of each token go into the layer's KV pages at the token's position",
    ),
    Op.ROPE_STORE: Signature(
        ("q", "k", "v", "frequencies", "q_norm?", "k_norm?"),
        ("y", "cache"),
        {"heads": int, "kv_heads": int, "style": str, "epsilon": float},
        "y = rope(rmsnorm(q)); store(rope(rmsnorm(k)), v); norms per head, if given; y may be q",
    ),
    Op.ATTEND: Signature(
        ("q", "cache"),
        ("y",),
        {"heads": int, "kv_heads": int, "scale": float, "window": int},
        "y = softmax(scale · q·Kᵀ) · V over the positions ≤ its own of the token's sequence "
        "(the last `window` of them if window > 0)",
    ),
    Op.ATTEND_ALL: Signature(
        ("q", "k", "v"),
        ("y",),
        {"heads": int, "scale": float},
        "y = softmax(scale · q·kᵀ) · v over all tokens of the token's sequence",
    ),
    Op.SELECT: Signature(("x",), ("y",), {}, "y[l] = x[output_rows[l]]"),
    Op.POOL: Signature(
        ("x",), ("y",), {"method": str}, "y[s] = the mean (or the first) of the sequence's rows"
    ),
    Op.NORMALIZE: Signature(("x",), ("y",), {}, "y = x / max(|x|₂, 1e-12)"),
}

OPTIONAL_ATTRIBUTES: Mapping[str, object] = {
    "activation": "none",
    "scale": 1.0,
    "offset": 0,
    "heads": 1,
    "window": 0,
    "epsilon": 0.0,
}
"""What an attribute is when an instruction does not give it."""

ACTIVATIONS = ("none", "silu", "gelu", "gelu_tanh", "relu", "tanh")

STYLES = ("halves", "interleaved")
"""Which columns of a head `rope` turns together: i and i + head_dim / 2, or 2i and 2i + 1."""

METHODS = ("mean", "first")
"""How `pool` makes one row of a sequence's rows."""
