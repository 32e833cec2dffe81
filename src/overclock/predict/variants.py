"""Models like a given one but for a change, made of sizes alone: for predictions and their checks.

Their weights are zeros, whose memory is not taken before it is read: enough to compile a program,
and to run it for its time, which does not depend on what is multiplied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from overclock.errors import InputError
from overclock.model.formats import LAYOUTS, Format, byte_size
from overclock.model.model import Model, Tensor

LAYER = re.compile(r"^blk\.(\d+)\.")

FFN_INNER = re.compile(r"\.ffn_(gate|up)\.(weight|bias)$")
"""What has a row for each number between a layer's feed-forward matrices."""

WIDE = 256
"""Widths stay multiples of this where a format's blocks are as long; else of 32."""


def with_format(model: Model, format: Format) -> Model:
    """All matrices that products read in `format`; tables that are only looked up stay.

    Raises InputError if a matrix has rows that do not fill its blocks, or no file holds the format.
    """
    if format not in LAYOUTS:
        raise InputError(f"{format} is made on load and stands in no file; take another format")
    block = LAYOUTS[format].elements

    def change(tensor: Tensor) -> Tensor:
        if len(tensor.shape) != 2 or _is_table(tensor.name, model):
            return _empty(tensor, tensor.shape, tensor.format)
        if tensor.shape[1] % block:
            raise InputError(
                f"{tensor.name} has rows of {tensor.shape[1]}, which do not fill the blocks of "
                f"{block} that {format} has; take another format"
            )
        return _empty(tensor, tensor.shape, format)

    return _changed(model, change)


def without_layers(model: Model, count: int) -> Model:
    """The last `count` layers left out. Raises InputError if none would stay."""
    layers = model.config.layers - count
    if count < 1 or layers < 1:
        raise InputError(
            f"{count} layers cannot be left out of the {model.config.layers} that {model.name} has"
        )
    weights = {
        name: _empty(tensor, tensor.shape, tensor.format)
        for name, tensor in model.weights.items()
        if (at := LAYER.match(name)) is None or int(at[1]) < layers
    }
    config = replace(
        model.config, layers=layers, sliding_layers=model.config.sliding_layers[:layers]
    )
    return replace(model, config=config, weights=weights)


def with_narrow_ffn(model: Model, share: float) -> Model:
    """So much of the width between a layer's feed-forward matrices, in whole blocks.

    Raises InputError if nothing, or all, would stay.
    """
    blocks = [LAYOUTS[tensor.format].elements for tensor in model.weights.values()]
    step = WIDE if max(blocks) == WIDE else 32
    old = model.config.ffn
    new = round(old * share / step) * step
    if not 0 < new < old:
        raise InputError(
            f"{share:g} of {model.name}'s feed-forward width of {old}, in steps of {step}, is "
            f"{new}, which leaves nothing out or nothing over; take another share"
        )

    def change(tensor: Tensor) -> Tensor:
        shape = tensor.shape
        if tensor.name.endswith(".ffn_down.weight"):
            shape = (shape[0], new)
        elif FFN_INNER.search(tensor.name):
            shape = (new, *shape[1:])
        return _empty(tensor, shape, tensor.format)

    return replace(_changed(model, change), config=replace(model.config, ffn=new))


def hollow(model: Model) -> Model:
    """The same sizes and formats."""
    return _changed(model, lambda tensor: _empty(tensor, tensor.shape, tensor.format))


def _changed(model: Model, change: Callable[[Tensor], Tensor]) -> Model:
    weights: Mapping[str, Tensor] = {n: change(tensor) for n, tensor in model.weights.items()}
    return replace(model, weights=weights)


def _empty(tensor: Tensor, shape: tuple[int, ...], format: Format) -> Tensor:
    size = int(np.prod(shape, dtype=np.int64))
    return Tensor(tensor.name, shape, format, np.zeros(byte_size(format, size), np.uint8))


def _is_table(name: str, model: Model) -> bool:
    """Whether no product reads it: positions, or an embedding that is no output too."""
    if name == "token_embd.weight":
        tied = model.config.family == "llama" and "output.weight" not in model.weights
        return not tied
    return name in ("position_embd.weight", "token_types.weight")
