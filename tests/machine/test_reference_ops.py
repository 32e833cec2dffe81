"""Single opcodes against formulas written out in Python's own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.machine.reference_ops import (
    ACTIVATIONS,
    OPS,
    Cache,
    Sequence,
    Step,
    quantized,
    rotated,
)
from overclock.program.isa import SIGNATURES, Op
from overclock.program.program import PAGE_TOKENS, Instruction, Operand

Array = NDArray[np.float32]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(op: Op, arrays: Mapping[str, Array | tuple[Array, ...]], **attributes: object) -> Array:
    """The y of one instruction over two sequences, of 3 tokens and of the rest."""
    inputs = {k: v if isinstance(v, tuple) else (v,) for k, v in arrays.items()}
    rows = len(next(iter(inputs.values()))[0])
    bounds = ((0, 3), (3, rows))
    nothing = np.zeros(0, np.int32)
    sequences = tuple(
        Sequence(slice(a, b), np.arange(b - a, dtype=np.int32), nothing) for a, b in bounds
    )
    instruction = Instruction(op, {}, {}, attributes)
    positions = np.concatenate([s.positions for s in sequences])
    step = Step(instruction, inputs, sequences, positions, np.array([2, 0], np.int32), {})
    return OPS[op](step)["y"]


def test_every_opcode_has_a_meaning() -> None:
    assert OPS.keys() == set(Op) == SIGNATURES.keys()


FORMULAS: dict[str, Callable[[float], float]] = {
    "none": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(x=st.floats(-30, 30, width=32))
def test_activations(name: str, x: float) -> None:
    (y,) = ACTIVATIONS[name](np.array([x], np.float32))
    assert y.dtype == np.float32
    assert y == pytest.approx(FORMULAS[name](x), rel=2e-5, abs=2e-6)


def test_matmul_joins_matrices_and_adds_all() -> None:
    x, a, b = normal(5, 8), normal(3, 8, seed=1), normal(2, 8, seed=2)
    bias, residual = normal(5, seed=3), normal(5, 5, seed=4)
    y = run(
        Op.MATMUL,
        {"x": x, "w": (a, b), "bias": (bias[:3], bias[3:]), "residual": residual},
        activation="relu",
    )
    w = [*a.tolist(), *b.tolist()]
    for t in range(5):
        for o in range(5):
            dot = math.fsum(p * q for p, q in zip(x[t].tolist(), w[o], strict=True))
            wanted = max(dot + float(bias[o]), 0) + float(residual[t, o])
            assert y[t, o] == pytest.approx(wanted, abs=1e-5)


def test_gates() -> None:
    x, gate, up = normal(4, 8), normal(6, 8, seed=1), normal(6, 8, seed=2)
    apart = run(Op.GATE, {"gate": x @ gate.T, "up": x @ up.T}, activation="silu")
    at_once = run(Op.GATED_MATMUL, {"x": x, "gate": gate, "up": up}, activation="silu")
    g = float(np.dot(x[1], gate[2]))
    assert at_once[1, 2] == pytest.approx(g / (1 + math.exp(-g)) * float(x[1] @ up[2]), rel=1e-4)
    np.testing.assert_allclose(at_once, apart, rtol=1e-5, atol=1e-6)


def test_norms() -> None:
    x, w, b = normal(4, 6), normal(6, seed=1), normal(6, seed=2)
    row = x[2].tolist()
    mean = math.fsum(row) / 6
    variance = math.fsum((v - mean) ** 2 for v in row) / 6
    layer = run(Op.LAYERNORM, {"x": x, "w": w, "b": b}, epsilon=1e-5)
    wanted = [(v - mean) / math.sqrt(variance + 1e-5) for v in row] * w.astype(float) + b
    np.testing.assert_allclose(layer[2], wanted, rtol=1e-5)
    rms = math.sqrt(math.fsum(v * v for v in row[3:]) / 3 + 1e-5)
    heads = run(Op.RMSNORM, {"x": x, "w": w[:3]}, epsilon=1e-5, heads=2)
    np.testing.assert_allclose(heads[2, 3:], x[2, 3:] / rms * w[:3], rtol=1e-5)


@pytest.mark.parametrize(("style", "pair"), [("halves", (1, 3)), ("interleaved", (2, 3))])
def test_rope_turns_a_pair_by_position_times_frequency(style: str, pair: tuple[int, int]) -> None:
    x, frequencies = normal(1, 2, 4), np.array([1.0, 0.01], np.float32)
    y = rotated(x, np.array([7], np.int32), frequencies, style)
    turned = complex(*x[0, 1, pair].tolist()) * complex(math.cos(0.07), math.sin(0.07))
    assert complex(*y[0, 1, pair].tolist()) == pytest.approx(turned, rel=1e-5)
    np.testing.assert_allclose(np.linalg.norm(y), np.linalg.norm(x), rtol=1e-5)


def naive_attention(q: Array, k: Array, v: Array, scale: float) -> list[float]:
    scores = [scale * math.fsum((q * row).tolist()) for row in k]
    weights = [math.exp(s - max(scores)) for s in scores]
    total = math.fsum(weights)
    return [
        math.fsum(w * float(row[c]) for w, row in zip(weights, v, strict=True)) / total
        for c in range(v.shape[1])
    ]


def test_attend_all_sees_the_whole_sequence_and_no_other() -> None:
    q, k, v = (normal(7, 8, seed=s) for s in range(3))
    y = run(Op.ATTEND_ALL, {"q": q, "k": k, "v": v}, heads=2, scale=0.5)
    for t, rows in ((1, slice(0, 3)), (5, slice(3, 7))):
        wanted = naive_attention(q[t, 4:], k[rows, 4:], v[rows, 4:], 0.5)
        np.testing.assert_allclose(y[t, 4:], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [0, 1, 6, 100])
def test_attend_sees_the_past_through_pages(window: int) -> None:
    tokens, past = 4, PAGE_TOKENS + 3
    k, v = normal(past + tokens, 2, 4, seed=1), normal(past + tokens, 2, 4, seed=2)
    q = normal(tokens, 16, seed=3)
    cache, pages = Cache(5, 2, 4, "f32"), np.array([4, 1], np.int32)
    cache.store(pages, np.arange(past + tokens, dtype=np.int32), k, v)
    attributes = {"heads": 4, "kv_heads": 2, "scale": 0.5, "window": window}
    instruction = Instruction(Op.ATTEND, {"cache": (Operand("kv"),)}, {}, attributes)
    positions = np.arange(past, past + tokens, dtype=np.int32)
    sequence = Sequence(slice(0, tokens), positions, pages)
    step = Step(instruction, {"q": (q,)}, (sequence,), positions, positions[:0], {"kv": cache})
    y = OPS[Op.ATTEND](step)["y"]
    for t in range(tokens):
        first = max(0, past + t + 1 - window) if window else 0
        for head in range(4):
            columns = slice(4 * head, 4 * head + 4)
            seen = slice(first, past + t + 1)
            wanted = naive_attention(q[t, columns], k[seen, head // 2], v[seen, head // 2], 0.5)
            np.testing.assert_allclose(y[t, columns], wanted, rtol=1e-4, atol=1e-6)


def test_kv_formats_round() -> None:
    k = normal(1, 1, 32)
    position, pages = np.zeros(1, np.int32), np.zeros(1, np.int32)
    kept = {}
    for kv in ("f32", "f16", "i8"):
        cache = Cache(1, 1, 32, kv)
        cache.store(pages, position, k, -k)
        read, negative = cache.read(pages, 1)
        np.testing.assert_array_equal(read, -negative)
        kept[kv] = read
    np.testing.assert_array_equal(kept["f32"], k)
    np.testing.assert_array_equal(kept["f16"], k.astype(np.float16))
    scale = float(np.abs(k).max()) / 127
    steps = kept["i8"] / scale
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    assert np.abs(kept["i8"] - k).max() <= scale * 0.5001


def test_quantized_groups_of_32() -> None:
    x = np.zeros((2, 64), np.float32)
    x[0, :4] = [127, 0.5, 1.5, -2.5]  # scale 1: halves go to the even neighbour
    x[0, 32:36] = [-254, 1, 3, 4]  # scale 2
    wanted = np.zeros_like(x)
    wanted[0, :4] = [127, 0, 2, -2]
    wanted[0, 32:36] = [-254, 0, 4, 4]
    np.testing.assert_array_equal(quantized(x), wanted)


def test_select_pool_normalize() -> None:
    x = normal(6, 4)
    np.testing.assert_array_equal(run(Op.SELECT, {"x": x}), x[[2, 0]])
    np.testing.assert_array_equal(run(Op.POOL, {"x": x}, method="first"), x[[0, 3]])
    mean = run(Op.POOL, {"x": x}, method="mean")
    np.testing.assert_allclose(mean[1], x[3:].astype(float).mean(axis=0), rtol=1e-5, atol=1e-7)
    unit = run(Op.NORMALIZE, {"x": np.vstack([x, np.zeros((1, 4), np.float32)])})
    lengths = [math.hypot(*row) for row in unit.tolist()]
    assert lengths == pytest.approx([1.0] * 6 + [0.0], rel=1e-5)
