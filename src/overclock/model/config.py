"""What both kinds of configuration share: the bounds of sizes and the names of functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from overclock.errors import ModelError
from overclock.model.fields import Fields
from overclock.model.model import Activation
from overclock.model.names import DECODERS, ENCODERS

MAX_LAYERS: Final = 1024
MAX_CONTEXT: Final = 1 << 26
GEMMA_PATTERN: Final = 6  # every sixth layer of Gemma 3 sees everything, the others a window
GEMMA_LOCAL_THETA: Final = 10_000.0

ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "tanh": "tanh",
}


def unknown_architecture(path: Path, architecture: str) -> ModelError:
    """The error for an architecture that has no program here."""
    known = ", ".join(sorted(DECODERS | ENCODERS))
    return ModelError(
        f"{path} holds a model of the architecture {architecture[:60]!r}; "
        f"the ones that can be run are {known}"
    )


def activation(fields: Fields, key: str) -> Activation:
    """The activation function that `key` names. Raises ModelError for an unknown one."""
    name = fields.text(key)
    if name not in ACTIVATIONS:
        raise fields.wrong(key, f"one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def head_size(fields: Fields, width: int, heads: int, given: int | None = None) -> int:
    """Columns of one head: as given, or width / heads.

    Raises ModelError if the width cannot be parted so.
    """
    if given is None and width % heads:
        raise ModelError(f"{fields.path}: a width of {width} cannot be parted into {heads} heads")
    return given or width // heads


def check_heads(fields: Fields, heads: int, kv_heads: int, head_dim: int) -> None:
    """Raise ModelError unless key–value heads serve equally many heads, of even size."""
    if heads % kv_heads:
        raise ModelError(
            f"{fields.path}: {heads} heads cannot share {kv_heads} key-value heads evenly"
        )
    if head_dim % 2:
        raise ModelError(f"{fields.path}: heads of {head_dim} columns cannot be turned in pairs")


def refuse_softcapping(fields: Fields) -> None:
    """Raise ModelError for logits or scores that go through a tanh, which no program does."""
    for key in ("final_logit_softcapping", "attn_logit_softcapping"):
        if fields.get(key):
            raise fields.wrong(key, "absent: models with soft-capping cannot be run")


def gemma_layers(layers: int, pattern: int = GEMMA_PATTERN) -> tuple[bool, ...]:
    """Which layers of Gemma 3 slide: all but every `pattern`-th."""
    return tuple((layer + 1) % pattern != 0 for layer in range(layers))


def gemma_scale(width: int) -> float:
    """What Gemma multiplies embeddings by: √width, rounded to f32.

    transformers rounds it to the type that the weights are loaded in, so a model run in bfloat16
    there has a slightly different scale; f32 is what the reference figures are made with.
    """
    return float(np.float32(math.sqrt(width)))
