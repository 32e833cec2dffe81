"""BERT and its relatives: RoBERTa, DistilBERT, sentence encoders; with or without a head."""

from __future__ import annotations

from collections.abc import Collection

from overclock.model.formats import Format
from overclock.model.model import Config, Model
from overclock.program.builder import Builder
from overclock.program.program import Program


def write(
    model: Model, weight_format: Format | None = None, adapted: Collection[str] = ()
) -> Program:
    """The plain program of an encoder.

    Its outputs are ``hidden`` ``f32[T, width]``, ``embedding`` ``f32[S, width]`` and, if the model
    has a head, ``scores``: ``f32[L, vocabulary]`` of a masked-LM head, ``f32[S, labels]`` of a
    sequence classifier, ``f32[T, labels]`` of a token classifier.

    Raises ModelError if a tensor is missing or has another shape than the configuration says.
    """
    config = model.config
    build = Builder(model, weight_format, adapted)
    x = _embeddings(build, config)
    for layer in range(config.layers):
        build.layer = layer
        x = _attention(build, config, layer, x)
        x = _feed_forward(build, config, layer, x)
    build.layer = None
    outputs = {"hidden": x, "embedding": _sentence(build, config, x)}
    if config.head != "none":
        outputs["scores"] = HEADS[config.head](build, config, x)
    return build.program(outputs)


def _embeddings(build: Builder, config: Config) -> str:
    """norm(token + position + token type), ``f32[T, width]``."""
    tokens = build.table("token_embd.weight", config.width)
    positions = build.table("position_embd.weight", config.width)
    x = build.embed("token", build.input("token_ids"), tokens)
    offset = config.position_offset
    position = build.embed("position", build.input("positions"), positions, offset=offset)
    x = build.add("token+position", x, position)
    if build.has("token_types.weight"):
        types = build.table("token_types.weight", config.width)
        token_type = build.embed("type", build.input("token_types"), types)
        x = build.add("token+position+type", x, token_type)
    return build.layernorm("x", x, "token_embd_norm")


def _attention(build: Builder, config: Config, layer: int, x: str) -> str:
    """norm(x + attention(x)), ``f32[T, width]``."""
    block = f"blk.{layer}"
    columns = config.heads * config.head_dim
    q, k, v = (build.linear(part, x, f"{block}.attn_{part}", columns) for part in "qkv")
    scale = config.attention_scale or config.head_dim**-0.5
    y = build.attend_all("attention", (q, k, v), heads=config.heads, scale=scale)
    y = build.linear("attn_output", y, f"{block}.attn_output", config.width)
    y = build.add("attn_sum", x, y)
    return build.layernorm("attn_x", y, f"{block}.attn_output_norm")


def _feed_forward(build: Builder, config: Config, layer: int, x: str) -> str:
    """norm(x + down(activation(up(x)))), ``f32[T, width]``."""
    block = f"blk.{layer}"
    y = build.linear("up", x, f"{block}.ffn_up", config.ffn)
    y = build.activate("activated", y, config.activation)
    y = build.linear("down", y, f"{block}.ffn_down", config.width)
    y = build.add("ffn_sum", x, y)
    return build.layernorm("ffn_x", y, f"{block}.layer_output_norm")


def _sentence(build: Builder, config: Config, x: str) -> str:
    """One vector a sequence; the mean of its rows if the model does not say how to pool."""
    y = build.pool("sentence", x, "first" if config.pooling == "cls" else "mean")
    return build.normalize("embedding", y) if config.normalize else y


def _masked_lm(build: Builder, config: Config, x: str) -> str:
    x = build.select("selected", x)
    y = build.linear("mlm_dense", x, "mlm.dense", config.width)
    y = build.activate("mlm_activated", y, config.activation)
    y = build.layernorm("mlm_x", y, "mlm.norm")
    matrix = "mlm.output" if build.has("mlm.output.weight") else "token_embd"
    return build.linear("scores", y, matrix, config.vocabulary, bias="mlm.output.bias")


def _sequence(build: Builder, config: Config, x: str) -> str:
    y = build.pool("first", x, "first")
    if build.has("cls.dense.weight"):
        y = build.linear("cls_dense", y, "cls.dense", config.width)
        y = build.activate("cls_activated", y, config.head_activation)
    return build.linear("scores", y, "cls.output", len(config.labels))


def _token(build: Builder, config: Config, x: str) -> str:
    return build.linear("scores", x, "token.output", len(config.labels))


HEADS = {"masked_lm": _masked_lm, "sequence": _sequence, "token": _token}
"""What writes the scores of each kind of head."""
