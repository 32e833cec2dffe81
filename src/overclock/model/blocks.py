"""What the bits of each block format mean, as NumPy over many blocks at once.

Source: the block structures of ggml (`ggml-common.h`) and their scalar meaning. Every function
takes ``block[n]`` (a structured array, one record a block) and gives ``f32[n, elements]``. The
order of the float operations is ggml's, so that the results are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Blocks = NDArray[np.void]

HALF = "<f2"
BYTE = "u1"

Q4_0 = np.dtype([("d", HALF), ("qs", BYTE, 16)])
Q4_1 = np.dtype([("d", HALF), ("m", HALF), ("qs", BYTE, 16)])
Q5_0 = np.dtype([("d", HALF), ("qh", BYTE, 4), ("qs", BYTE, 16)])
Q5_1 = np.dtype([("d", HALF), ("m", HALF), ("qh", BYTE, 4), ("qs", BYTE, 16)])
Q8_0 = np.dtype([("d", HALF), ("qs", "i1", 32)])
Q2_K = np.dtype([("scales", BYTE, 16), ("qs", BYTE, 64), ("d", HALF), ("dmin", HALF)])
Q3_K = np.dtype([("hmask", BYTE, 32), ("qs", BYTE, 64), ("scales", BYTE, 12), ("d", HALF)])
Q4_K = np.dtype([("d", HALF), ("dmin", HALF), ("scales", BYTE, 12), ("qs", BYTE, 128)])
Q5_K = np.dtype(
    [("d", HALF), ("dmin", HALF), ("scales", BYTE, 12), ("qh", BYTE, 32), ("qs", BYTE, 128)]
)
Q6_K = np.dtype([("ql", BYTE, 128), ("qh", BYTE, 64), ("scales", "i1", 16), ("d", HALF)])


def _floats(values: NDArray[np.generic]) -> Floats:
    return values.astype(np.float32)


def _column(values: NDArray[np.generic]) -> Floats:
    """One float a block, ready to multiply the block's values: ``f32[n, 1]``."""
    return _floats(values)[:, None]


def _fields(packed: Bytes, bits: int, span: int) -> Bytes:
    """Unpack ``u8[n, bytes]`` whose every `span` bytes hold 8 / bits runs of `span` values.

    The lowest bits of the span's bytes are its first run, the next bits its second …
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    runs = packed.reshape(len(packed), -1, 1, span) >> shifts
    return (runs & np.uint8((1 << bits) - 1)).reshape(len(packed), -1)


def _five_bits(blocks: Blocks) -> Bytes:
    """The 5-bit values of Q5_0 and Q5_1: nibbles below, bit i of `qh` on top of value i."""
    high = np.unpackbits(blocks["qh"], axis=1, bitorder="little")
    return _fields(blocks["qs"], 4, 16) | (high << np.uint8(4))


def _q4_0(blocks: Blocks) -> Floats:
    return (_floats(_fields(blocks["qs"], 4, 16)) - np.float32(8)) * _column(blocks["d"])


def _q4_1(blocks: Blocks) -> Floats:
    scaled = _floats(_fields(blocks["qs"], 4, 16)) * _column(blocks["d"])
    return scaled + _column(blocks["m"])


def _q5_0(blocks: Blocks) -> Floats:
    return (_floats(_five_bits(blocks)) - np.float32(16)) * _column(blocks["d"])


def _q5_1(blocks: Blocks) -> Floats:
    return _floats(_five_bits(blocks)) * _column(blocks["d"]) + _column(blocks["m"])


def _q8_0(blocks: Blocks) -> Floats:
    return _floats(blocks["qs"]) * _column(blocks["d"])


def _groups(values: NDArray[np.generic], scales: Floats, minima: Floats | None = None) -> Floats:
    """Each group's values times its scale, less its minimum; groups are equal parts of a block."""
    grouped = _floats(values).reshape(*scales.shape, -1) * scales[..., None]
    if minima is not None:
        grouped -= minima[..., None]
    return grouped.reshape(len(values), -1)


def _q2_k(blocks: Blocks) -> Floats:
    scales = _column(blocks["d"]) * _floats(blocks["scales"] & np.uint8(15))
    minima = _column(blocks["dmin"]) * _floats(blocks["scales"] >> np.uint8(4))
    return _groups(_fields(blocks["qs"], 2, 32), scales, minima)


def _q3_k(blocks: Blocks) -> Floats:
    # 16 scales of 6 bits: low nibbles in bytes 0–7, high pairs of bits in bytes 8–11.
    low = _fields(blocks["scales"][:, :8], 4, 8)
    high = _fields(blocks["scales"][:, 8:], 2, 4)
    scales = _floats(low | (high << np.uint8(4))) - np.float32(32)
    # A cleared bit of `hmask` takes 4 from the value.
    values = _fields(blocks["qs"], 2, 32) | (_fields(blocks["hmask"], 1, 32) << np.uint8(2))
    return _groups(_floats(values) - np.float32(4), _column(blocks["d"]) * scales)


def _scales_and_minima(blocks: Blocks) -> tuple[Floats, Floats]:
    """The eight 6-bit scales and minima that Q4_K and Q5_K pack into 12 bytes, times d and dmin.

    Bytes 0–3 and 4–7 hold the first four scales and minima; their top two bits and the nibbles
    of bytes 8–11 hold the other four.
    """
    first, second, rest = (blocks["scales"][:, i : i + 4] for i in (0, 4, 8))
    six, top = np.uint8(63), np.uint8(0x30)
    high_scales = (rest & np.uint8(15)) | ((first >> np.uint8(2)) & top)
    high_minima = (rest >> np.uint8(4)) | ((second >> np.uint8(2)) & top)
    scales = np.concatenate([first & six, high_scales], axis=1)
    minima = np.concatenate([second & six, high_minima], axis=1)
    return _column(blocks["d"]) * _floats(scales), _column(blocks["dmin"]) * _floats(minima)


def _q4_k(blocks: Blocks) -> Floats:
    return _groups(_fields(blocks["qs"], 4, 32), *_scales_and_minima(blocks))


def _q5_k(blocks: Blocks) -> Floats:
    high = _fields(blocks["qh"], 1, 32) << np.uint8(4)
    return _groups(_fields(blocks["qs"], 4, 32) | high, *_scales_and_minima(blocks))


def _q6_k(blocks: Blocks) -> Floats:
    values = _fields(blocks["ql"], 4, 64) | (_fields(blocks["qh"], 2, 32) << np.uint8(4))
    scales = _column(blocks["d"]) * _floats(blocks["scales"])
    return _groups(_floats(values) - np.float32(32), scales)


BLOCKS: dict[str, tuple[np.dtype[np.void], Callable[[Blocks], Floats]]] = {
    "Q4_0": (Q4_0, _q4_0),
    "Q4_1": (Q4_1, _q4_1),
    "Q5_0": (Q5_0, _q5_0),
    "Q5_1": (Q5_1, _q5_1),
    "Q8_0": (Q8_0, _q8_0),
    "Q2_K": (Q2_K, _q2_k),
    "Q3_K": (Q3_K, _q3_k),
    "Q4_K": (Q4_K, _q4_k),
    "Q5_K": (Q5_K, _q5_k),
    "Q6_K": (Q6_K, _q6_k),
}
"""The record of a block and the function that gives its values, by the format's name."""
