"""The number formats of stored tensors: block layouts and what their bits mean.

Source: the GGUF specification and the block structures of ggml (`ggml-common.h`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from overclock.model.blocks import BLOCKS


class Format(StrEnum):
    """A tensor's storage format."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q5_0 = "Q5_0"
    Q5_1 = "Q5_1"
    Q8_0 = "Q8_0"
    Q2_K = "Q2_K"
    Q3_K = "Q3_K"
    Q4_K = "Q4_K"
    Q5_K = "Q5_K"
    Q6_K = "Q6_K"
    I8 = "I8"  # int8, one f32 scale a row; made on load, in no file


class Layout(NamedTuple):
    """`elements` consecutive values of a row are stored in `bytes` bytes."""

    elements: int
    bytes: int


LAYOUTS: dict[Format, Layout] = {
    Format.F32: Layout(1, 4),
    Format.F16: Layout(1, 2),
    Format.BF16: Layout(1, 2),
    Format.Q4_0: Layout(32, 18),
    Format.Q4_1: Layout(32, 20),
    Format.Q5_0: Layout(32, 22),
    Format.Q5_1: Layout(32, 24),
    Format.Q8_0: Layout(32, 34),
    Format.Q2_K: Layout(256, 84),
    Format.Q3_K: Layout(256, 110),
    Format.Q4_K: Layout(256, 144),
    Format.Q5_K: Layout(256, 176),
    Format.Q6_K: Layout(256, 210),
}


GGUF_TYPES: dict[int, Format] = {
    0: Format.F32,
    1: Format.F16,
    2: Format.Q4_0,
    3: Format.Q4_1,
    6: Format.Q5_0,
    7: Format.Q5_1,
    8: Format.Q8_0,
    10: Format.Q2_K,
    11: Format.Q3_K,
    12: Format.Q4_K,
    13: Format.Q5_K,
    14: Format.Q6_K,
    30: Format.BF16,
}
"""The number that a GGUF file writes for a format."""

_CHUNK = 1 << 20
"""Values unpacked at a time, so that the temporary arrays stay in the cache's neighbourhood."""


def byte_size(format: Format, elements: int) -> int:
    """Bytes that `elements` values take; `elements` must fill whole blocks."""
    layout = LAYOUTS[format]
    assert elements % layout.elements == 0, f"{elements} values do not fill blocks of {format}"
    return elements // layout.elements * layout.bytes


def dequantize(data: NDArray[np.uint8], format: Format, size: int) -> NDArray[np.float32]:
    """`size` values of `format` from their bytes, as a fresh ``f32[size]``.

    `data` is ``uint8[byte_size(format, size)]``, contiguous; its alignment does not matter.
    """
    assert data.size == byte_size(format, size), f"{data.size} bytes for {size} values of {format}"
    if format in BLOCKS:
        return _dequantize_blocks(data, format, size)
    if format is Format.BF16:
        return (data.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return data.view("<f4" if format is Format.F32 else "<f2").astype(np.float32)


def _dequantize_blocks(data: NDArray[np.uint8], format: Format, size: int) -> NDArray[np.float32]:
    record, values = BLOCKS[format]
    blocks = data.view(record)
    out = np.empty((len(blocks), LAYOUTS[format].elements), np.float32)
    step = _CHUNK // LAYOUTS[format].elements
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite scale is the file's business
        for start in range(0, len(blocks), step):
            out[start : start + step] = values(blocks[start : start + step])
    return out.reshape(size)


def quantize_rows(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """`Format.I8` of ``f32[n, columns]``: ``int8[n, columns]`` and one scale a row, ``f32[n]``.

    scale = max|row| / 127, value = row / scale to the nearest integer, halves to even.
    A row of zeros has scale 0.
    """
    scales = (np.abs(rows).max(axis=1, initial=0.0) / np.float32(127)).astype(np.float32)
    scaled = np.zeros(rows.shape, np.float32)
    np.divide(rows, scales[:, None], out=scaled, where=scales[:, None] > 0)
    # A scale too small to be exact may leave more than 127 steps.
    return np.rint(scaled).clip(-127, 127).astype(np.int8), scales
