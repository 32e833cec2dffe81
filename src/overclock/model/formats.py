"""The number formats of stored tensors: block layouts and what their bits mean.

Source: the GGUF specification and the block structures of ggml (`ggml-common.h`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


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


def dequantize(data: NDArray[np.uint8], format: Format, size: int) -> NDArray[np.float32]:
    """`size` values of `format` from their bytes, as ``f32[size]``."""
    raise NotImplementedError
