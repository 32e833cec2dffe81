"""What each opcode means, in NumPy: a small function for each, concerned only with being right.

Arrays are f32. A quantised activation is held as the numbers that its int8 values stand for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from overclock.machine.machine import KvFormat
from overclock.model.adapter import Adapter
from overclock.program.isa import Op
from overclock.program.program import GROUP, PAGE_TOKENS, Instruction

Array = NDArray[np.float32]
IntArray = NDArray[np.int32]


# -- numbers ------------------------------------------------------------------------------------


def rounded_to_int8(x: Array) -> Array:
    """`x` after int8 with one scale for the last axis: scale = max|x| / 127, to nearest even."""
    scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    q = np.rint(np.divide(x, scale, out=np.zeros_like(x), where=scale > 0))
    return np.asarray(q * scale, np.float32)


def quantized(x: Array) -> Array:
    """``f32[rows, columns]`` as int8 in groups of 32 columns shows it."""
    groups = x.reshape(len(x), x.shape[1] // GROUP, GROUP)
    return rounded_to_int8(groups).reshape(x.shape)


_erf = np.frompyfunc(math.erf, 1, 1)


def gelu(x: Array) -> Array:
    """`x` · Φ(`x`) with the exact error function."""
    erf = np.asarray(_erf(x / np.float32(math.sqrt(2))), np.float32)
    return np.float32(0.5) * x * (np.float32(1) + erf)


def gelu_tanh(x: Array) -> Array:
    """The approximation of gelu by tanh (Hendrycks & Gimpel 2016)."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
    return np.asarray(np.float32(0.5) * x * (np.float32(1) + np.tanh(inner)), np.float32)


def silu(x: Array) -> Array:
    """`x` / (1 + exp(−`x`)), written by tanh so that it cannot overflow."""
    half = np.float32(0.5) * x
    return np.asarray(half * (np.float32(1) + np.tanh(half)), np.float32)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
}


def rotated(x: Array, positions: IntArray, frequencies: Array, style: str) -> Array:
    """``x [T, heads, head_dim]``: each pair of columns turned by position · frequency."""
    angles = (positions[:, None].astype(np.float32) * frequencies)[:, None]
    cos, sin = np.cos(angles), np.sin(angles)
    half = x.shape[-1] // 2
    y = np.empty_like(x)
    if style == "halves":
        first, second = slice(None, half), slice(half, None)
    else:
        first, second = slice(0, None, 2), slice(1, None, 2)
    a, b = x[..., first], x[..., second]
    y[..., first], y[..., second] = a * cos - b * sin, b * cos + a * sin
    return y


def softmax(scores: Array) -> Array:
    """Over the last axis."""
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), np.float32)


def rms_normalized(x: Array, w: Array, epsilon: float) -> Array:
    """Over the last axis."""
    mean = np.mean(x * x, axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean + np.float32(epsilon)) * w, np.float32)


def attention(q: Array, k: Array, v: Array, scale: float, visible: NDArray[np.bool_]) -> Array:
    """``q [n, heads, d]``, ``k, v [m, kv_heads, d]``, ``visible [n, m]`` → ``[n, heads · d]``."""
    repeat = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, repeat, axis=1), np.repeat(v, repeat, axis=1)
    scores = np.einsum("nhd,mhd->hnm", q, k) * np.float32(scale)
    weights = softmax(np.where(visible, scores, np.float32(-np.inf)))
    return np.asarray(np.einsum("hnm,mhd->nhd", weights, v).reshape(len(q), q[0].size), np.float32)


# -- the state that instructions see ------------------------------------------------------------


class Cache:
    """The KV pages of one layer: ``k, v f32[pages, kv_heads, PAGE_TOKENS, head_dim]``.

    Values are rounded to the KV format when they are stored.
    """

    def __init__(self, pages: int, kv_heads: int, head_dim: int, format: KvFormat) -> None:
        """Room for `pages` pages."""
        self.k = np.zeros((pages, kv_heads, PAGE_TOKENS, head_dim), np.float32)
        self.v = np.zeros_like(self.k)
        self._format = format

    @property
    def page_bytes(self) -> int:
        """Bytes of one page."""
        return 2 * self.k.itemsize * math.prod(self.k.shape[1:])

    def store(self, pages: IntArray, positions: IntArray, k: Array, v: Array) -> None:
        """``k, v [n, kv_heads, head_dim]`` go to the `positions` of a sequence with `pages`."""
        page, slot = pages[positions // PAGE_TOKENS], positions % PAGE_TOKENS
        self.k[page, :, slot] = self._rounded(k)
        self.v[page, :, slot] = self._rounded(v)

    def read(self, pages: IntArray, tokens: int) -> tuple[Array, Array]:
        """K and V of a sequence's first `tokens` tokens, each ``[tokens, kv_heads, head_dim]``."""
        used = pages[: -(-tokens // PAGE_TOKENS)]
        k, v = (
            side[used].swapaxes(1, 2).reshape(-1, side.shape[1], side.shape[3])[:tokens]
            for side in (self.k, self.v)
        )
        return k, v

    def _rounded(self, x: Array) -> Array:
        if self._format == "f16":
            return x.astype(np.float16).astype(np.float32)
        return rounded_to_int8(x) if self._format == "i8" else x


@dataclass(frozen=True, slots=True)
class Sequence:
    """One sequence of a batch: its rows, their positions, its KV pages."""

    rows: slice
    positions: IntArray
    pages: IntArray


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction with its operands' values by role, and the batch it works on."""

    instruction: Instruction
    inputs: Mapping[str, tuple[Array, ...]]
    sequences: tuple[Sequence, ...]
    positions: IntArray
    output_rows: IntArray
    caches: Mapping[str, Cache]
    ids: Mapping[str, IntArray] = field(default_factory=dict)
    adapters: tuple[Adapter | None, ...] = ()  # of the sequence of each row, for `adapt`

    def __getitem__(self, role: str) -> Array:
        """The one operand of a role."""
        (value,) = self.inputs[role]
        return value

    def joined(self, role: str, axis: int) -> Array | None:
        """All operands of a role laid side by side, None if there are none."""
        values = self.inputs.get(role, ())
        return np.concatenate(values, axis=axis) if values else None

    def heads(self, role: str, attribute: str = "heads") -> Array:
        """The operand as ``[rows, heads, columns / heads]``."""
        x, heads = self[role], self.integer(attribute)
        return x.reshape(len(x), heads, x.shape[1] // heads)

    def integer(self, name: str) -> int:
        """An attribute that is an integer."""
        value = self.instruction.attribute(name)
        assert isinstance(value, int), f"{name} is {value!r}"
        return value

    def number(self, name: str) -> float:
        """An attribute that is a number."""
        value = self.instruction.attribute(name)
        assert isinstance(value, int | float), f"{name} is {value!r}"
        return float(value)

    def text(self, name: str) -> str:
        """An attribute that is a word."""
        value = self.instruction.attribute(name)
        assert isinstance(value, str), f"{name} is {value!r}"
        return value

    def activated(self, x: Array) -> Array:
        """`x` through the instruction's activation."""
        return ACTIVATIONS[self.text("activation")](x)

    def cache(self) -> Cache:
        """The KV pages that the instruction reads or writes."""
        roles = self.instruction.outputs.get("cache") or self.instruction.inputs["cache"]
        return self.caches[roles[0].buffer]


# -- one function an opcode ---------------------------------------------------------------------

Values = dict[str, Array]


def embed(step: Step) -> Values:
    """Rows of a table."""
    ids = step.ids[step.instruction.inputs["ids"][0].buffer]
    rows = step["table"][ids + step.integer("offset")]
    return {"y": np.float32(step.number("scale")) * rows}


def add(step: Step) -> Values:
    """`a` + `b`."""
    return {"y": step["a"] + step["b"]}


def rmsnorm(step: Step) -> Values:
    """`x` / √(mean `x`² + ε) · `w`, for each head."""
    y = rms_normalized(step.heads("x"), step["w"], step.number("epsilon"))
    y = y.reshape(step["x"].shape)
    return {"y": y, "q": y}


def layernorm(step: Step) -> Values:
    """(x − mean) / √(variance + ε) · w + b."""
    x = step["x"] - step["x"].mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(step.number("epsilon")))
    y = x / deviation * step["w"] + step["b"]
    return {"y": y, "q": y}


def quantize(step: Step) -> Values:
    """`x`; it is rounded as it enters its int8 buffer."""
    return {"y": step["x"]}


def matmul(step: Step) -> Values:
    """activation(x · wᵀ + bias) + residual."""
    w, bias = step.joined("w", axis=0), step.joined("bias", axis=0)
    assert w is not None
    y = step["x"] @ w.T
    y = step.activated(y if bias is None else y + bias)
    return {"y": y + step["residual"] if step.inputs.get("residual") else y}


def gated_matmul(step: Step) -> Values:
    """activation(x · gateᵀ) · (x · upᵀ)."""
    return {"y": step.activated(step["x"] @ step["gate"].T) * (step["x"] @ step["up"].T)}


def adapt(step: Step) -> Values:
    """`a` + scale · (x · Aᵀ) · Bᵀ in the rows whose adapter has A and B for the site."""
    x, y, site = step["x"], step["a"].copy(), step.text("site")
    for row, adapter in enumerate(step.adapters):
        if adapter is not None and site in adapter.sites:
            change = adapter.sites[site]
            y[row] += np.float32(change.scale) * ((x[row] @ change.a.T) @ change.b.T)
    return {"y": y}


def activate(step: Step) -> Values:
    """activation(x)."""
    return {"y": step.activated(step["x"])}


def gate(step: Step) -> Values:
    """activation(gate) · up."""
    return {"y": step.activated(step["gate"]) * step["up"]}


def rope(step: Step) -> Values:
    """`x` turned by its positions."""
    y = rotated(step.heads("x"), step.positions, step["frequencies"], step.text("style"))
    return {"y": y.reshape(step["x"].shape)}


def store(step: Step) -> Values:
    """`k` and `v` go to their positions in the pages."""
    _store(step, step.heads("k"), step.heads("v"))
    return {}


def rope_store(step: Step) -> Values:
    """rope(norm(q)); store(rope(norm(k)), v)."""
    q, k = _turned(step, "q", "heads"), _turned(step, "k", "kv_heads")
    _store(step, k, step.heads("v", "kv_heads"))
    return {"y": q.reshape(step["q"].shape)}


def attend(step: Step) -> Values:
    """Attention over the positions up to its own, in the last `window`."""
    q, cache, window = step.heads("q"), step.cache(), step.integer("window")
    y = np.empty_like(step["q"])
    for sequence in step.sequences:
        own = sequence.positions[:, None]
        past = np.arange(sequence.positions[-1] + 1)
        visible = (past <= own) & ((past > own - window) if window else True)
        k, v = cache.read(sequence.pages, len(past))
        y[sequence.rows] = attention(q[sequence.rows], k, v, step.number("scale"), visible)
    return {"y": y}


def attend_all(step: Step) -> Values:
    """Attention over the whole sequence."""
    q, k, v = (step.heads(role) for role in ("q", "k", "v"))
    y = np.empty_like(step["q"])
    for rows in (sequence.rows for sequence in step.sequences):
        visible = np.ones((len(q[rows]), len(k[rows])), np.bool_)
        y[rows] = attention(q[rows], k[rows], v[rows], step.number("scale"), visible)
    return {"y": y}


def select(step: Step) -> Values:
    """The rows whose output is wanted."""
    return {"y": step["x"][step.output_rows]}


def pool(step: Step) -> Values:
    """The mean or the first of each sequence's rows."""
    x, mean = step["x"], step.text("method") == "mean"
    parts = (x[sequence.rows] for sequence in step.sequences)
    return {"y": np.stack([part.mean(axis=0) if mean else part[0] for part in parts])}


def normalize(step: Step) -> Values:
    """`x` / |`x`|."""
    length = np.linalg.norm(step["x"], axis=-1, keepdims=True)
    return {"y": step["x"] / np.maximum(length, np.float32(1e-12))}


def _turned(step: Step, role: str, count: str) -> Array:
    """`q` or `k` of `rope_store`: normalised per head if there is a norm, then turned."""
    x = step.heads(role, count)
    if step.inputs.get(f"{role}_norm"):
        x = rms_normalized(x, step[f"{role}_norm"], step.number("epsilon"))
    return rotated(x, step.positions, step["frequencies"], step.text("style"))


def _store(step: Step, k: Array, v: Array) -> None:
    for sequence in step.sequences:
        rows = sequence.rows
        step.cache().store(sequence.pages, sequence.positions, k[rows], v[rows])


OPS: Mapping[Op, Callable[[Step], Values]] = {
    Op.EMBED: embed,
    Op.ADD: add,
    Op.RMSNORM: rmsnorm,
    Op.LAYERNORM: layernorm,
    Op.QUANTIZE: quantize,
    Op.MATMUL: matmul,
    Op.GATED_MATMUL: gated_matmul,
    Op.ADAPT: adapt,
    Op.ACTIVATE: activate,
    Op.GATE: gate,
    Op.ROPE: rope,
    Op.STORE: store,
    Op.ROPE_STORE: rope_store,
    Op.ATTEND: attend,
    Op.ATTEND_ALL: attend_all,
    Op.SELECT: select,
    Op.POOL: pool,
    Op.NORMALIZE: normalize,
}
"""Values of an opcode's outputs by role; those that an instruction does not write are ignored."""
