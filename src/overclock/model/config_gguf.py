"""GGUF metadata → Config.

Source: the GGUF specification's standardised keys, and what llama.cpp does where a file leaves a
value out (the local rotation of Gemma 3, its attention scale, its pattern of layers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from overclock.errors import ModelError
from overclock.model.config import (
    GEMMA_LOCAL_THETA,
    GEMMA_PATTERN,
    MAX_CONTEXT,
    MAX_LAYERS,
    check_heads,
    gemma_layers,
    gemma_scale,
    head_size,
    refuse_softcapping,
    unknown_architecture,
)
from overclock.model.fields import Fields
from overclock.model.model import Config, Pooling, Tensor
from overclock.model.rope import Rope, rope

_POOLING: Final[Mapping[int, Pooling]] = {0: "none", 1: "mean", 2: "cls"}
_GEMMA_27B_LAYERS: Final = 62  # the one size whose attention scale is 1 / √(width / heads)

_SCALING: Final = {
    "scaling.type": "rope_type",
    "scaling.factor": "factor",
    "scaling.original_context_length": "original_max_position_embeddings",
    "scaling.attn_factor": "attention_factor",
    "scaling.yarn_beta_fast": "beta_fast",
    "scaling.yarn_beta_slow": "beta_slow",
}
"""GGUF's keys of a rotation and Hugging Face's."""


def config_from_gguf(
    path: Path, metadata: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> Config:
    """The Config that the metadata of the file `path` describes.

    `tensors` are the file's, by its own names: they tell the size of the vocabulary, whether the
    output is tied, and Llama 3's rotation. Raises ModelError as `config_from_json` does.
    """
    general = Fields(path, metadata)
    architecture = general.text("general.architecture")
    fields = Fields(path, metadata, architecture + ".")
    if architecture == "bert":
        return _encoder(fields, tensors)
    if architecture not in ("llama", "qwen2", "qwen3", "gemma3"):
        raise unknown_architecture(path, architecture)
    config = _decoder(fields, architecture, tensors)
    return _gemma(fields, config) if architecture == "gemma3" else _windowed(fields, config)


def _vocabulary(fields: Fields, tensors: Mapping[str, Tensor]) -> int:
    table = tensors.get("token_embd.weight")
    if table is None:
        raise ModelError(f"{fields.path} holds no token_embd.weight; download it again")
    return table.shape[0]


def _decoder(fields: Fields, architecture: str, tensors: Mapping[str, Tensor]) -> Config:
    if fields.index("expert_count", 0):
        raise fields.wrong("expert_count", "0: mixtures of experts cannot be run")
    refuse_softcapping(fields)
    width, heads = fields.size("embedding_length"), fields.size("attention.head_count")
    kv_heads = fields.size("attention.head_count_kv", heads)
    given = fields.get("attention.key_length") and fields.size("attention.key_length")
    head_dim = head_size(fields, width, heads, given if isinstance(given, int) else None)
    if fields.size("attention.value_length", head_dim) != head_dim:
        raise fields.wrong("attention.value_length", f"{head_dim}, the length of keys")
    check_heads(fields, heads, kv_heads, head_dim)
    turned = _rope(fields, head_dim, tensors.get("rope_freqs.weight"))
    return Config(
        family="llama",
        architecture=architecture,
        vocabulary=_vocabulary(fields, tensors),
        width=width,
        layers=fields.size("block_count", limit=MAX_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=fields.size("feed_forward_length"),
        context=fields.size("context_length", limit=MAX_CONTEXT),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon"),
        activation="silu",
        rope_style="interleaved" if architecture == "llama" else "halves",
        rope_frequencies=turned.frequencies,
        attention_scale=turned.score_factor / math.sqrt(head_dim),
        tied_embeddings="output.weight" not in tensors,
    )


def _rope(fields: Fields, head_dim: int, factors: Tensor | None) -> Rope:
    if fields.size("rope.dimension_count", head_dim) != head_dim:
        raise fields.wrong("rope.dimension_count", f"{head_dim}, a whole head")
    scaling = {new: fields.get("rope." + old) for old, new in _SCALING.items()}
    if scaling["rope_type"] is None and fields.get("rope.scale_linear") is not None:
        scaling = {"rope_type": "linear", "factor": fields.get("rope.scale_linear")}
    described = Fields(fields.path, scaling)
    theta = fields.number("rope.freq_base", 10_000.0)
    context = fields.size("context_length", limit=MAX_CONTEXT)
    turned = rope(described.text("rope_type", "none"), described, theta, head_dim, context)
    return turned if factors is None else _stretch(fields, turned, factors)


def _stretch(fields: Fields, turned: Rope, factors: Tensor) -> Rope:
    """Llama 3's scaling, which GGUF stores as one divisor a frequency."""
    divisors = factors.dequantize().reshape(-1)
    if len(divisors) != len(turned.frequencies) or not (divisors > 0).all():
        raise ModelError(
            f"{fields.path}: rope_freqs.weight must hold {len(turned.frequencies)} positive numbers"
        )
    stretched = np.array(turned.frequencies, np.float32) / divisors
    return Rope(tuple(stretched.tolist()), turned.score_factor)


def _gemma(fields: Fields, config: Config) -> Config:
    large = config.layers == _GEMMA_27B_LAYERS
    scalar = config.width / config.heads if large else config.head_dim
    local = fields.number("rope.freq_base_swa", GEMMA_LOCAL_THETA)
    near = rope("default", Fields(fields.path, {}), local, config.head_dim, config.context)
    pattern = fields.get("attention.sliding_window_pattern")
    every = pattern if isinstance(pattern, int) and pattern > 0 else GEMMA_PATTERN
    return replace(
        config,
        activation="gelu_tanh",
        attention_scale=1 / math.sqrt(scalar),
        embedding_scale=gemma_scale(config.width),
        local_rope_frequencies=near.frequencies,
        sliding_window=fields.size("attention.sliding_window"),
        sliding_layers=gemma_layers(config.layers, every),
    )


def _windowed(fields: Fields, config: Config) -> Config:
    """Mistral's window, in which all layers slide; other files do not have the key."""
    if config.architecture != "llama" or not fields.get("attention.sliding_window"):
        return config
    window = fields.size("attention.sliding_window")
    return replace(config, sliding_window=window, sliding_layers=(True,) * config.layers)


def _encoder(fields: Fields, tensors: Mapping[str, Tensor]) -> Config:
    width, heads = fields.size("embedding_length"), fields.size("attention.head_count")
    head_dim = head_size(fields, width, heads)
    pooling = _pooling(fields)
    labels = _labels(fields, tensors)
    return Config(
        family="bert",
        architecture="bert",
        vocabulary=_vocabulary(fields, tensors),
        width=width,
        layers=fields.size("block_count", limit=MAX_LAYERS),
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        ffn=fields.size("feed_forward_length"),
        context=fields.size("context_length", limit=MAX_CONTEXT),
        norm_epsilon=fields.number("attention.layer_norm_epsilon"),
        activation="gelu",
        attention_scale=1 / math.sqrt(head_dim),
        pooling=pooling,
        normalize=pooling != "none",  # no key says so; the tools of such files do it
        head="sequence" if labels else "none",
        labels=labels,
    )


def _pooling(fields: Fields) -> Pooling:
    number = fields.index("pooling_type", 0)
    if number == 4:  # "rank": a classifier over the first token, which has its own head
        return "cls"
    if number not in _POOLING:
        raise fields.wrong("pooling_type", "0 (none), 1 (mean), 2 (cls) or 4 (rank)")
    return _POOLING[number]


def _labels(fields: Fields, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of the classes if the file has a classifier, made up if it does not name them."""
    output = tensors.get("cls.output.weight")
    if output is None:
        return ()
    named = fields.texts("classifier.output_labels")
    return tuple(named) or tuple(f"LABEL_{number}" for number in range(output.shape[0]))
