"""Which weights a model must have, and of which shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from overclock.errors import ModelError
from overclock.model.checkpoint import plain
from overclock.model.model import Config, Tensor

Shape: TypeAlias = tuple[int, ...]


def check_weights(config: Config, weights: Mapping[str, Tensor], path: Path) -> None:
    """Every weight that `config` calls for is there, of the right shape, and no other one is.

    Raises ModelError, which names the weight and the file or directory `path`.
    """
    required = dict(_llama(config) if config.family == "llama" else _bert(config, weights))
    optional = dict(_optional(config))
    for name, shape in required.items():
        if name not in weights:
            raise ModelError(f"{path} lacks the weight {name}; it is incomplete, download it again")
        _check_shape(weights[name], shape, path)
    for name in sorted(weights.keys() - required.keys()):
        if name not in optional:
            raise ModelError(
                f"{path} has a weight {name}, which no {config.architecture} model known here has"
            )
        _check_shape(weights[name], optional[name], path)


def with_plain_vectors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with norms and biases in F32, which is what every machine wants them in."""
    return {
        name: plain(tensor) if len(tensor.shape) == 1 else tensor
        for name, tensor in weights.items()
    }


def _check_shape(tensor: Tensor, shape: Shape, path: Path) -> None:
    if tensor.shape != shape:
        raise ModelError(
            f"{path}: weight {tensor.name} has the shape {list(tensor.shape)}, "
            f"but the configuration calls for {list(shape)}"
        )


def _dense(name: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _projections(config: Config) -> dict[str, Shape]:
    """Matrices of a decoder's layer."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "attn_q": (queries, config.width),
        "attn_k": (keys, config.width),
        "attn_v": (keys, config.width),
        "attn_output": (config.width, queries),
        "ffn_gate": (config.ffn, config.width),
        "ffn_up": (config.ffn, config.width),
        "ffn_down": (config.width, config.ffn),
    }


def _llama(config: Config) -> Iterator[tuple[str, Shape]]:
    yield "token_embd.weight", (config.vocabulary, config.width)
    yield "output_norm.weight", (config.width,)
    if not config.tied_embeddings:
        yield "output.weight", (config.vocabulary, config.width)
    norms = {"attn_norm": config.width, "ffn_norm": config.width}
    if config.architecture in ("qwen3", "gemma3"):
        norms |= {"attn_q_norm": config.head_dim, "attn_k_norm": config.head_dim}
    if config.architecture == "gemma3":
        norms |= {"post_attention_norm": config.width, "post_ffw_norm": config.width}
    for layer in range(config.layers):
        for name, shape in _projections(config).items():
            yield f"blk.{layer}.{name}.weight", shape
        for name, width in norms.items():
            yield f"blk.{layer}.{name}.weight", (width,)


def _optional(config: Config) -> Iterator[tuple[str, Shape]]:
    if config.family == "llama":
        for layer in range(config.layers):
            for name, (rows, _) in _projections(config).items():
                yield f"blk.{layer}.{name}.bias", (rows,)
    if config.head == "masked_lm":
        yield "mlm.output.bias", (config.vocabulary,)


def _bert(config: Config, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Shape]]:
    width = config.width
    if config.architecture != "distilbert":  # as many types as the file has, but at least one
        types = weights.get("token_types.weight")
        yield "token_types.weight", (types.shape[0] if types and types.size else 1, width)
    yield "token_embd.weight", (config.vocabulary, width)
    yield "position_embd.weight", (config.context + config.position_offset, width)
    yield from _norm("token_embd_norm", width)
    for layer in range(config.layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield from _dense(f"blk.{layer}.{name}", width, width)
        yield from _norm(f"blk.{layer}.attn_output_norm", width)
        yield from _dense(f"blk.{layer}.ffn_up", config.ffn, width)
        yield from _dense(f"blk.{layer}.ffn_down", width, config.ffn)
        yield from _norm(f"blk.{layer}.layer_output_norm", width)
    yield from _head(config)


def _head(config: Config) -> Iterator[tuple[str, Shape]]:
    width, labels = config.width, len(config.labels)
    if config.head == "masked_lm":
        yield from _dense("mlm.dense", width, width)
        yield from _norm("mlm.norm", width)
        if not config.tied_embeddings:
            yield "mlm.output.weight", (config.vocabulary, width)
    elif config.head == "sequence":
        yield from _dense("cls.dense", width, width)
        yield from _dense("cls.output", labels, width)
    elif config.head == "token":
        yield from _dense("token.output", labels, width)
