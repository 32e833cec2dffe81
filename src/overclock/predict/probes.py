"""Models made of nothing but sizes, whose programs hold the kernels that are to be measured.

Weights are zeros: no kernel's time depends on what it multiplies. Their sizes are spread so that a
kernel's time can be told apart into what a run, a panel and an input cost; none is the size of a
model that people use.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from overclock.errors import ModelError
from overclock.model.formats import LAYOUTS, Format, byte_size
from overclock.model.later import Later
from overclock.model.model import Config, Model, Tensor, Text

FAR_BYTES = 384 << 20
"""Of a probe's layers together: more than the part of a shared cache that a process gets."""

CHECK_BYTES = 128 << 20

MOST_LAYERS = 256


class Sizes(NamedTuple):
    """A Transformer's sizes. Widths are multiples of 256, which all formats' blocks fill."""

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int


DECODERS = (
    Sizes(512, 8, 2, 64, 1280, 6016),
    Sizes(1024, 16, 8, 64, 2816, 24000),
    Sizes(1536, 12, 4, 128, 4096, 12032),
)

ENCODERS = (
    Sizes(256, 8, 8, 32, 1024, 4000),
    Sizes(512, 8, 8, 64, 2560, 4000),
    Sizes(768, 12, 12, 64, 1536, 4000),
)
"""The widest is not the one with the widest feed-forward part: of matrices that lie on a line,
panels and products, the two costs cannot be told apart."""

CHECK_DECODER = Sizes(768, 12, 4, 64, 2048, 16000)
CHECK_ENCODER = Sizes(512, 16, 16, 32, 2048, 4000)
"""Sizes on which the formulas made from the others are tried."""

CONTEXT = 4096


def decoder(sizes: Sizes, format: Format, head: Format, size: int) -> Model:
    """A Llama of these sizes, with layers of `size` bytes in all.

    head: format of its embedding, which is its output too
    """
    width, ffn = sizes.width, sizes.ffn
    heads, kv_heads = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    matrices = {
        "attn_q": (heads, width),
        "attn_k": (kv_heads, width),
        "attn_v": (kv_heads, width),
        "attn_output": (width, heads),
        "ffn_gate": (ffn, width),
        "ffn_up": (ffn, width),
        "ffn_down": (width, ffn),
    }
    layers = _layers(matrices, format, size)
    weights = _Zeros()
    weights.add("token_embd.weight", (sizes.vocabulary, width), head)
    weights.add("output_norm.weight", (width,), Format.F32)
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            weights.add(f"blk.{layer}.{name}.weight", (width,), Format.F32)
        for name, shape in matrices.items():
            weights.add(f"blk.{layer}.{name}.weight", shape, format)
    turns = tuple(1e4 ** (-i / sizes.head_dim) for i in range(0, sizes.head_dim, 2))
    return _model(replace(_config("llama", sizes, layers), rope_frequencies=turns), weights)


def encoder(sizes: Sizes, format: Format, size: int) -> Model:
    """A BERT of these sizes, with layers of `size` bytes in all."""
    width, ffn = sizes.width, sizes.ffn
    matrices = {
        **{f"attn_{part}": (width, width) for part in ("q", "k", "v", "output")},
        "ffn_up": (ffn, width),
        "ffn_down": (width, ffn),
    }
    layers = _layers(matrices, format, size)
    weights = _Zeros()
    weights.add("token_embd.weight", (sizes.vocabulary, width), Format.F32)
    weights.add("position_embd.weight", (CONTEXT, width), Format.F32)
    weights.add("token_types.weight", (2, width), Format.F32)
    norms = ["token_embd_norm"]
    for layer in range(layers):
        for name, shape in matrices.items():
            weights.add(f"blk.{layer}.{name}.weight", shape, format)
            weights.add(f"blk.{layer}.{name}.bias", shape[:1], Format.F32)
        norms += [f"blk.{layer}.{name}" for name in ("attn_output_norm", "layer_output_norm")]
    for norm in norms:
        for part in ("weight", "bias"):
            weights.add(f"{norm}.{part}", (width,), Format.F32)
    config = _config("bert", sizes, layers)
    return _model(replace(config, pooling="mean", normalize=True), weights)


class _Zeros(dict[str, Tensor]):
    """Weights that are all zero."""

    def add(self, name: str, shape: tuple[int, ...], format: Format) -> None:
        """One more. Its memory is not taken before it is read."""
        size = int(np.prod(shape))
        self[name] = Tensor(name, shape, format, np.zeros(byte_size(format, size), np.uint8))


def _config(family: Literal["llama", "bert"], sizes: Sizes, layers: int) -> Config:
    return Config(
        family=family,
        architecture=family,
        vocabulary=sizes.vocabulary,
        width=sizes.width,
        layers=layers,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        ffn=sizes.ffn,
        context=CONTEXT,
        norm_epsilon=1e-5,
        activation="silu" if family == "llama" else "gelu",
    )


def _layers(matrices: dict[str, tuple[int, int]], format: Format, size: int) -> int:
    """As many as make `size` bytes, two at least."""
    layout = LAYOUTS[format]
    each = sum(rows * columns for rows, columns in matrices.values())
    return max(2, min(MOST_LAYERS, size * layout.elements // (each * layout.bytes)))


def _model(config: Config, weights: dict[str, Tensor]) -> Model:
    return Model("probe", Path("probe"), config, weights, Later(_no_text))


def _no_text() -> Text:
    raise ModelError("a probe has no text; it is only measured")
