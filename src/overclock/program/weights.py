"""What the compiler needs to know about a weight's format: is it integers, how large is it."""

from __future__ import annotations

from overclock.model.formats import LAYOUTS, Format
from overclock.program.program import Buffer

FLOATS = frozenset({Format.F32, Format.F16, Format.BF16})
"""Formats of weights that are multiplied as floating-point numbers."""


def is_quantized(buffer: Buffer) -> bool:
    """Whether a weight is held in integers, so that its products may take int8 activations."""
    return buffer.format not in FLOATS


def weight_bytes(buffer: Buffer, rows: int | None = None) -> int:
    """Bytes of a weight's matrix or vector, or of `rows` rows of it."""
    if rows is None:
        rows = buffer.shape[0] if len(buffer.shape) == 2 else 1
    if buffer.format is Format.I8:
        return rows * (buffer.columns + 4)
    layout = LAYOUTS[buffer.format]
    return rows * buffer.columns // layout.elements * layout.bytes
