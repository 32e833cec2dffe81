"""Rotary position embeddings: from the many ways files describe them to plain frequencies.

Sources: Su et al. 2021 (RoPE); linear position interpolation (Chen et al. 2023); YaRN (Peng et
al. 2023); the scaling of Llama 3.1 as published with its weights. All arithmetic on frequencies is
in f32, as in the frameworks the models were trained in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overclock.errors import ModelError
from overclock.model.fields import Fields

Frequencies = NDArray[np.float32]


class Rope(NamedTuple):
    """`frequencies`: radians per position, ``[head_dim / 2]``; `score_factor` scales q·k."""

    frequencies: tuple[float, ...]
    score_factor: float = 1.0


def base_frequencies(theta: float, head_dim: int) -> Frequencies:
    """theta^(−2i / head_dim) for i below head_dim / 2, as ``f32[head_dim / 2]``."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    powers: Frequencies = np.power(np.float32(theta), exponents)
    return np.float32(1) / powers


def rope(kind: str, fields: Fields, theta: float, head_dim: int, context: int) -> Rope:
    """Frequencies for the scaling named `kind`, whose numbers are in `fields`.

    The keys are those of Hugging Face's ``rope_parameters``. Raises ModelError for a kind that is
    not known and for numbers that make no sense.
    """
    if kind not in _KINDS:
        raise fields.wrong("rope_type|type", f"one of {', '.join(_KINDS)}")
    if fields.number("partial_rotary_factor", 1.0) != 1.0:
        raise fields.wrong("partial_rotary_factor", "1: partly rotated heads cannot be run")
    if theta <= 1:
        raise ModelError(f"{fields.path}: the rotation's base is {theta}; it must be larger than 1")
    with np.errstate(all="ignore"):
        frequencies, score_factor = _KINDS[kind](fields, theta, head_dim, context)
    if not np.isfinite(frequencies).all() or not math.isfinite(score_factor):
        raise ModelError(f"{fields.path}: the rotation's scaling has impossible numbers")
    return Rope(tuple(frequencies.tolist()), score_factor)


def _default(_: Fields, theta: float, head_dim: int, __: int) -> tuple[Frequencies, float]:
    return base_frequencies(theta, head_dim), 1.0


def _linear(fields: Fields, theta: float, head_dim: int, _: int) -> tuple[Frequencies, float]:
    return base_frequencies(theta, head_dim) / np.float32(fields.number("factor")), 1.0


def _llama3(fields: Fields, theta: float, head_dim: int, context: int) -> tuple[Frequencies, float]:
    """Long wavelengths are stretched by `factor`, short ones kept, those between blended."""
    factor, low = fields.number("factor"), fields.number("low_freq_factor")
    high = fields.number("high_freq_factor")
    if high <= low:
        raise fields.wrong("high_freq_factor", "larger than low_freq_factor")
    original = fields.size("original_max_position_embeddings", context)
    frequencies = base_frequencies(theta, head_dim)
    turns = original / (np.float32(2 * math.pi) / frequencies)
    kept = ((turns - np.float32(low)) / np.float32(high - low)).clip(0, 1)
    blend = (1 - kept) * frequencies / np.float32(factor) + kept * frequencies
    return blend.astype(np.float32), 1.0


def _yarn(fields: Fields, theta: float, head_dim: int, context: int) -> tuple[Frequencies, float]:
    """Pairs that turn often are kept, those that turn rarely stretched, with a ramp between."""
    original = fields.size("original_max_position_embeddings", context)
    factor = fields.number("factor", max(context / original, 1e-6))
    fast, slow = (
        _pair_that_turns(turns, theta, head_dim, original)
        for turns in (fields.number("beta_fast", 32.0), fields.number("beta_slow", 1.0))
    )
    if fields.flag("truncate", default=True):
        fast, slow = math.floor(fast), math.ceil(slow)
    first, last = max(fast, 0), min(slow, head_dim - 1)
    pairs = np.arange(head_dim // 2, dtype=np.float32)
    span = last - first if last != first else 0.001
    stretched = ((pairs - np.float32(first)) / np.float32(span)).clip(0, 1)
    frequencies = base_frequencies(theta, head_dim)
    blend = frequencies / np.float32(factor) * stretched + frequencies * (1 - stretched)
    # The factor scales the cosines and sines of q and of k, so that q·k gets its square.
    return blend, _yarn_factor(fields, factor) ** 2


def _pair_that_turns(turns: float, theta: float, head_dim: int, context: int) -> float:
    """The (fractional) index of the pair of columns that makes `turns` rotations in `context`."""
    return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))


def _yarn_factor(fields: Fields, factor: float) -> float:
    def magnitude(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    if fields.get("mscale") and fields.get("mscale_all_dim"):
        inferred = magnitude(fields.number("mscale")) / magnitude(fields.number("mscale_all_dim"))
    else:
        inferred = magnitude(1.0)
    return fields.number("attention_factor", inferred)


_KINDS: Final[dict[str, Callable[[Fields, float, int, int], tuple[Frequencies, float]]]] = {
    "default": _default,
    "none": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
