"""Attention: who looked at whom, and what becomes of it over all layers.

Attention says where information came from, not whether it mattered; occlusion asks that.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from overclock.explain.compiled import Attention

Array = NDArray[np.float32]


def probabilities(site: Attention, q: Array, k: Array) -> Array:
    """What each token gives to each one it sees, ``f32[heads, T, T]``; rows sum to 1.

    softmax(scale · q · kᵀ) over the visible tokens; `q` and `k` as `Attention` says.
    """
    tokens = len(q)
    queries = q.reshape(tokens, site.heads, -1).transpose(1, 0, 2)
    keys = k.reshape(tokens, site.kv_heads, -1).transpose(1, 2, 0)
    keys = np.repeat(keys, site.heads // site.kv_heads, axis=0)
    scores = np.float32(site.scale) * (queries @ keys)
    scores[:, ~visible(site, tokens)] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.asarray(scores, np.float32)


def visible(site: Attention, tokens: int) -> NDArray[np.bool_]:
    """Whether the token of a row sees that of a column, ``bool[T, T]``."""
    if not site.is_causal:
        return np.ones((tokens, tokens), np.bool_)
    row, column = np.arange(tokens)[:, None], np.arange(tokens)
    return (column <= row) & ((column > row - site.window) if site.window else True)


def rolled_out(layers: Iterable[Array]) -> Array:
    """How much of each input token has come to each token behind the last layer, ``f32[T, T]``.

    layers: ``f32[heads, T, T]`` each, from the first on

    Attention rollout (Abnar & Zuidema 2020): the heads' mean, half of it and half the token itself
    for the residual, multiplied from layer to layer. Rows sum to 1.
    """
    rolled: Array | None = None
    for maps in layers:
        step = np.float32(0.5) * (maps.mean(axis=0) + np.eye(maps.shape[-1], dtype=np.float32))
        rolled = step if rolled is None else step @ rolled
    assert rolled is not None, "a model has layers"
    return rolled


def entropy(maps: Array) -> Array:
    """How widely each head looks: the mean over its rows of −Σ p ln p in nats, ``f32[heads]``."""
    logs = np.log(maps, out=np.zeros_like(maps), where=maps > 0)
    return np.asarray(-(maps * logs).sum(axis=-1).mean(axis=-1), np.float32)


def received(site: Attention, maps: Array) -> Array:
    """What a token gets from each one that sees it, the mean of these and the heads, ``f32[T]``."""
    watchers = visible(site, maps.shape[-1]).sum(axis=0)
    return np.asarray(maps.mean(axis=0).sum(axis=0) / watchers, np.float32)
