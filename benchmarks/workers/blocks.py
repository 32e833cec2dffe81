"""Random matrices in the formats of GGUF files: any bits, with scales that keep numbers small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SCALES = {
    "Q4_0": (32, 18, (0,)),
    "Q4_1": (32, 20, (0, 2)),
    "Q8_0": (32, 34, (0,)),
    "Q4_K": (256, 144, (0, 2)),
    "Q6_K": (256, 210, (208,)),
}
"""Elements and bytes of a block, and where in it its f16 scales are (`ggml-common.h`)."""


def random_bytes(format: str, outputs: int, inputs: int, seed: int) -> NDArray[np.uint8]:
    """A matrix of `outputs` × `inputs` as ``uint8[bytes]``. Raises LookupError if it cannot be."""
    random = np.random.default_rng(seed)
    if format in ("F32", "F16"):
        kind = np.float32 if format == "F32" else np.float16
        values = random.standard_normal((outputs, inputs), np.float32) * np.float32(0.02)
        return values.astype(kind).reshape(-1).view(np.uint8)
    elements, size, scales = SCALES[format]
    if inputs % elements:
        raise LookupError(f"{inputs} columns are no multiple of the {elements} of {format}")
    blocks = random.integers(0, 256, (outputs * inputs // elements, size), np.uint8)
    for offset in scales:
        blocks[:, offset : offset + 2] = np.array([0.001], np.float16).view(np.uint8)
    return blocks.reshape(-1)
