"""Llama and its relatives: Mistral, SmolLM2, Qwen 2, 2.5 and 3, Gemma 3.

They differ by what their checkpoints hold (biases, norms of q and k, norms after a block) and by
numbers of the configuration (scales, windows, frequencies), so one writer serves them all.
"""

from __future__ import annotations

from collections.abc import Collection

from overclock.model.formats import Format
from overclock.model.model import Config, Model
from overclock.program.builder import Builder
from overclock.program.program import Program


def write(
    model: Model, weight_format: Format | None = None, adapted: Collection[str] = ()
) -> Program:
    """The plain program of a decoder; its output is ``logits`` ``f32[L, vocabulary]``.

    Raises ModelError if a tensor is missing or has another shape than the configuration says.
    """
    config = model.config
    build = Builder(model, weight_format, adapted)
    ids = build.input("token_ids")
    table = build.table("token_embd.weight", config.width)
    x = build.embed("x", ids, table, scale=config.embedding_scale)
    for layer in range(config.layers):
        build.layer = layer
        x = _attention(build, config, layer, x)
        x = _feed_forward(build, config, layer, x)
    build.layer = None
    x = build.select("selected", x)
    x = build.rmsnorm("norm", x, "output_norm.weight")
    head = "output" if build.has("output.weight") else "token_embd"
    logits = build.linear("logits", x, head, config.vocabulary)
    return build.program({"logits": logits})


def _attention(build: Builder, config: Config, layer: int, x: str) -> str:
    """The sum x + attention(norm(x)), ``f32[T, width]``."""
    block = f"blk.{layer}"
    normed = build.rmsnorm("attn_norm", x, f"{block}.attn_norm.weight")
    heads = {"q": config.heads, "k": config.kv_heads, "v": config.kv_heads}
    q, k, v = (
        build.linear(part, normed, f"{block}.attn_{part}", count * config.head_dim)
        for part, count in heads.items()
    )
    frequencies = _frequencies(build, config, layer)
    q = _turn(build, config, q, f"{block}.attn_q_norm.weight", frequencies, config.heads)
    k = _turn(build, config, k, f"{block}.attn_k_norm.weight", frequencies, config.kv_heads)
    cache = build.cache(f"cache.{layer}", config.kv_heads, config.head_dim)
    build.store(k, v, cache)
    attributes = {
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "scale": config.attention_scale or config.head_dim**-0.5,
        "window": _window(config, layer),
    }
    y = build.attend("attention", q, cache, attributes)
    y = build.linear("attn_output", y, f"{block}.attn_output", config.width)
    return _add(build, x, y, f"{block}.post_attention_norm.weight", "attn_x")


def _feed_forward(build: Builder, config: Config, layer: int, x: str) -> str:
    """The sum x + down(activation(gate(norm(x))) · up(norm(x))), ``f32[T, width]``."""
    block = f"blk.{layer}"
    normed = build.rmsnorm("ffn_norm", x, f"{block}.ffn_norm.weight")
    gate = build.linear("gate", normed, f"{block}.ffn_gate", config.ffn)
    up = build.linear("up", normed, f"{block}.ffn_up", config.ffn)
    y = build.gate("gated", gate, up, config.activation)
    y = build.linear("down", y, f"{block}.ffn_down", config.width)
    return _add(build, x, y, f"{block}.post_ffw_norm.weight", "ffn_x")


def _turn(build: Builder, config: Config, x: str, norm: str, frequencies: str, heads: int) -> str:
    """The rope of x, its heads normalised first if the model has the tensor `norm`."""
    name = x.rpartition(".")[2]
    if build.has(norm):
        x = build.rmsnorm(f"{name}_norm", x, norm, heads=heads)
    return build.rope(f"{name}_rope", x, frequencies, heads=heads, style=config.rope_style)


def _add(build: Builder, x: str, y: str, norm: str, name: str) -> str:
    """The sum x + y, where y is normalised first if the model has the tensor `norm`."""
    if build.has(norm):
        y = build.rmsnorm(f"{name}_norm", y, norm)
    return build.add(name, x, y)


def _window(config: Config, layer: int) -> int:
    """The tokens a token of this layer sees, 0 for all."""
    return (config.sliding_window or 0) if _slides(config, layer) else 0


def _frequencies(build: Builder, config: Config, layer: int) -> str:
    if _slides(config, layer) and config.local_rope_frequencies:
        return build.constant("rope.local", config.local_rope_frequencies)
    return build.constant("rope", config.rope_frequencies)


def _slides(config: Config, layer: int) -> bool:
    return bool(config.sliding_layers) and config.sliding_layers[layer]
