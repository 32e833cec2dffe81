"""Small models with random weights, made in memory: what the tests of the compiler share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from overclock.model.formats import Format
from overclock.model.model import Config, Model, Tensor
from overclock.program.isa import Op
from overclock.program.program import Instruction, Operand, Program

LLAMA = Config(
    family="llama",
    architecture="llama",
    vocabulary=96,
    width=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=32,
    ffn=96,
    context=64,
    norm_epsilon=1e-5,
    activation="silu",
    rope_frequencies=tuple(10000 ** (-i / 16) for i in range(16)),
    attention_scale=32**-0.5,
)

BERT = Config(
    family="bert",
    architecture="bert",
    vocabulary=96,
    width=64,
    layers=2,
    heads=2,
    kv_heads=2,
    head_dim=32,
    ffn=96,
    context=40,
    norm_epsilon=1e-12,
    activation="gelu",
    labels=("no", "yes"),
)


class Weights(dict[str, Tensor]):
    """Random tensors by name."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, rows: int, columns: int, format: Format = Format.F32) -> None:
        """A matrix of normal numbers, in F32, F16 or Q8_0."""
        values = self._random.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
        self[name] = Tensor(name, (rows, columns), format, _encoded(values, format))

    def vector(self, name: str, size: int, around: float = 0.0) -> None:
        """A vector in F32."""
        values = self._random.normal(around, 0.1, size).astype(np.float32)
        self[name] = Tensor(name, (size,), Format.F32, _encoded(values, Format.F32))

    def linear(self, name: str, rows: int, columns: int, format: Format = Format.F32) -> None:
        """A matrix with a bias."""
        self.matrix(f"{name}.weight", rows, columns, format)
        self.vector(f"{name}.bias", rows)

    def norm(self, name: str, size: int) -> None:
        """A layer norm's weight and bias."""
        self.vector(f"{name}.weight", size, 1.0)
        self.vector(f"{name}.bias", size)


def _encoded(values: np.ndarray[Any, np.dtype[np.float32]], format: Format) -> Any:
    """The bytes of a tensor."""
    if format is Format.F32:
        return values.reshape(-1).view(np.uint8)
    if format is Format.F16:
        return values.astype(np.float16).reshape(-1).view(np.uint8)
    assert format is Format.Q8_0
    groups = values.reshape(-1, 32)
    scales = (np.abs(groups).max(axis=1, keepdims=True) / 127).astype(np.float16)
    numbers = np.rint(groups / scales.astype(np.float32)).astype(np.int8)
    return np.concatenate([scales.view(np.uint8), numbers.view(np.uint8)], axis=1).reshape(-1)


def decoder(
    config: Config = LLAMA,
    *,
    format: Format = Format.F32,
    head_norms: bool = False,
    post_norms: bool = False,
    biases: bool = False,
    untied: bool = False,
) -> Model:
    """A Llama-like decoder; the flags add what Qwen 2, Qwen 3 and Gemma 3 have."""
    weights = Weights()
    weights.matrix("token_embd.weight", config.vocabulary, config.width, format)
    weights.vector("output_norm.weight", config.width, 1.0)
    if untied:
        weights.matrix("output.weight", config.vocabulary, config.width, format)
    for layer in range(config.layers):
        _decoder_layer(weights, config, f"blk.{layer}", format, head_norms, post_norms, biases)
    return _model("decoder", config, weights)


def _decoder_layer(
    weights: Weights,
    config: Config,
    block: str,
    format: Format,
    head_norms: bool,
    post_norms: bool,
    biases: bool,
) -> None:
    width, ffn = config.width, config.ffn
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    projections = {"q": q, "k": kv, "v": kv}
    for part, rows in projections.items():
        weights.matrix(f"{block}.attn_{part}.weight", rows, width, format)
        if biases:
            weights.vector(f"{block}.attn_{part}.bias", rows)
    weights.matrix(f"{block}.attn_output.weight", width, q, format)
    weights.matrix(f"{block}.ffn_gate.weight", ffn, width, format)
    weights.matrix(f"{block}.ffn_up.weight", ffn, width, format)
    weights.matrix(f"{block}.ffn_down.weight", width, ffn, format)
    after = ("post_attention_norm", "post_ffw_norm") if post_norms else ()
    for norm in ("attn_norm", "ffn_norm", *after):
        weights.vector(f"{block}.{norm}.weight", width, 1.0)
    for norm in ("attn_q_norm", "attn_k_norm") if head_norms else ():
        weights.vector(f"{block}.{norm}.weight", config.head_dim, 1.0)


def encoder(
    config: Config = BERT, *, format: Format = Format.F32, token_types: bool = True
) -> Model:
    """A BERT-like encoder with the head that the configuration names."""
    weights = Weights()
    width = config.width
    weights.matrix("token_embd.weight", config.vocabulary, width, format)
    weights.matrix("position_embd.weight", config.context + config.position_offset, width)
    if token_types:
        weights.matrix("token_types.weight", 2, width)
    weights.norm("token_embd_norm", width)
    for layer in range(config.layers):
        block = f"blk.{layer}"
        for part in ("q", "k", "v", "output"):
            weights.linear(f"{block}.attn_{part}", width, width, format)
        weights.norm(f"{block}.attn_output_norm", width)
        weights.linear(f"{block}.ffn_up", config.ffn, width, format)
        weights.linear(f"{block}.ffn_down", width, config.ffn, format)
        weights.norm(f"{block}.layer_output_norm", width)
    _head(weights, config, format)
    return _model("encoder", config, weights)


def _head(weights: Weights, config: Config, format: Format) -> None:
    width, labels = config.width, len(config.labels)
    if config.head == "masked_lm":
        weights.linear("mlm.dense", width, width, format)
        weights.norm("mlm.norm", width)
        weights.vector("mlm.output.bias", config.vocabulary)
    if config.head == "sequence":
        weights.linear("cls.dense", width, width, format)
        weights.linear("cls.output", labels, width)
    if config.head == "token":
        weights.linear("token.output", labels, width)


def _model(name: str, config: Config, weights: Weights) -> Model:
    """The compiler looks at no tokenizer."""
    return Model(name, Path(name), config, weights, cast(Any, None))


def gemma(**changes: Any) -> Model:
    """A decoder with all that Gemma 3 has: four norms a layer, windows, two kinds of angles."""
    config = replace(
        LLAMA,
        architecture="gemma3",
        activation="gelu_tanh",
        sliding_window=8,
        sliding_layers=(True, False),
        local_rope_frequencies=tuple(100 ** (-i / 16) for i in range(16)),
        embedding_scale=8.0,
        **changes,
    )
    return decoder(config, head_norms=True, post_norms=True)


def opcodes(program: Program, layer: int | None = None) -> list[Op]:
    """The opcodes in order, of one layer if it is given."""
    wanted = program.instructions
    return [each.op for each in wanted if layer is None or each.layer == layer]


def only(program: Program, op: Op, layer: int | None = None) -> Instruction:
    """The one instruction with this opcode."""
    (found,) = [
        each
        for each in program.instructions
        if each.op is op and (layer is None or each.layer == layer)
    ]
    return found


def names(operands: tuple[Operand, ...]) -> list[str]:
    """Operands as text."""
    return [str(operand) for operand in operands]
