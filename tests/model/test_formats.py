"""Every block format against the gguf package and against blocks worked out by hand."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.model.formats import (
    GGUF_TYPES,
    LAYOUTS,
    Format,
    byte_size,
    dequantize,
    quantize_rows,
)

NUMBERS = {format: number for number, format in GGUF_TYPES.items()}


def unpack(format: Format, data: bytes) -> list[float]:
    layout = LAYOUTS[format]
    size = len(data) // layout.bytes * layout.elements
    return [float(x) for x in dequantize(np.frombuffer(data, np.uint8), format, size)]


def half(value: float) -> bytes:
    return struct.pack("<e", value)


@pytest.mark.parametrize("format", LAYOUTS)
def test_layouts_are_those_of_the_gguf_package(format: Format) -> None:
    sizes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[format.name]]
    assert tuple(LAYOUTS[format]) == sizes
    assert NUMBERS[format] == gguf.GGMLQuantizationType[format.name].value


@pytest.mark.parametrize("format", LAYOUTS)
@given(seed=st.integers(0, 2**32 - 1), blocks=st.integers(1, 40))
def test_any_bits_mean_what_the_gguf_package_says(format: Format, seed: int, blocks: int) -> None:
    size = blocks * LAYOUTS[format].elements
    data = np.random.default_rng(seed).integers(0, 256, byte_size(format, size), dtype=np.uint8)
    number = gguf.GGMLQuantizationType[format.name]
    with np.errstate(all="ignore"):
        wanted = gguf.quants.dequantize(data.reshape(1, -1), number).reshape(-1)
    found = dequantize(data, format, size)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("format", LAYOUTS)
def test_many_blocks_are_unpacked_in_parts(format: Format) -> None:
    """More values than are unpacked at once, from an address that is not aligned."""
    layout = LAYOUTS[format]
    one = np.random.default_rng(7).integers(0, 100, layout.bytes, dtype=np.uint8)
    count = (1 << 20) // layout.elements + 3
    data = np.concatenate([np.zeros(1, np.uint8), np.tile(one, count)])[1:]
    found = dequantize(data, format, count * layout.elements).reshape(count, -1)
    alone = dequantize(one, format, layout.elements)
    np.testing.assert_array_equal(found, np.broadcast_to(alone, found.shape))


def test_q4_0_by_hand() -> None:
    block = half(0.5) + bytes([0x80, 0x1F] + [0x88] * 14)
    assert unpack(Format.Q4_0, block) == [-4.0, 3.5, *[0.0] * 14, 0.0, -3.5, *[0.0] * 14]


def test_q4_1_by_hand() -> None:
    block = half(2.0) + half(-1.0) + bytes([0xF3] + [0] * 15)
    assert unpack(Format.Q4_1, block) == [5.0, *[-1.0] * 15, 29.0, *[-1.0] * 15]


def test_q5_0_by_hand() -> None:
    block = half(1.0) + struct.pack("<I", 1 | 1 << 31) + bytes([0x21] + [0] * 14 + [0xF0])
    wanted = [1.0, *[-16.0] * 15, -14.0, *[-16.0] * 14, 15.0]
    assert unpack(Format.Q5_0, block) == wanted


def test_q5_1_by_hand() -> None:
    block = half(0.25) + half(1.0) + struct.pack("<I", 2) + bytes([0x0F, 0x01] + [0] * 14)
    assert unpack(Format.Q5_1, block) == [4.75, 5.25, *[1.0] * 30]


def test_q8_0_by_hand() -> None:
    block = half(0.5) + struct.pack("32b", -128, 127, *range(30))
    assert unpack(Format.Q8_0, block) == [-64.0, 63.5, *(i / 2 for i in range(30))]


def test_q2_k_by_hand() -> None:
    """Scale 3 and minimum 2 in the first of sixteen groups, nothing in the others."""
    block = bytes([0x23] + [0] * 15) + bytes([0b11] + [0b01] * 15 + [0] * 48)
    found = unpack(Format.Q2_K, block + half(1.0) + half(0.5))
    assert found == [8.0, *[2.0] * 15, *[0.0] * 240]


def test_q3_k_by_hand() -> None:
    """The first group has scale 33 − 32 = 1; its first value's high bit is set."""
    scales = bytes([1] + [0] * 7 + [0b10, 0b10, 0b10, 0b10])
    block = bytes([1] + [0] * 31) + bytes([0b10] + [0] * 63) + scales + half(1.0)
    found = unpack(Format.Q3_K, block)
    assert found[:3] == [2.0, -4.0, -4.0]
    assert found[16:18] == [0.0, 0.0]  # group 1: its scale is 32 − 32


def test_q4_k_by_hand() -> None:
    """Groups 0 and 4 of eight: a low scale, and one whose parts are in three places."""
    scales = bytes([0b11_000010, 0, 0, 0, 0b01_000001, 0, 0, 0, 0xA5, 0, 0, 0])
    block = half(1.0) + half(1.0) + scales + bytes([0x03] + [0] * 63 + [0x02] + [0] * 63)
    found = unpack(Format.Q4_K, block)
    assert found[:2] == [2 * 3 - 1, -1.0]
    assert found[128:130] == [(0b110101) * 2 - 0b011010, -0b011010]


def test_q5_k_by_hand() -> None:
    scales = bytes([2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    block = half(1.0) + half(1.0) + scales + bytes([1] + [0] * 31) + bytes([0x03] + [0] * 127)
    assert unpack(Format.Q5_K, block)[:2] == [2 * 19 - 1, -1.0]


def test_q6_k_by_hand() -> None:
    scales = struct.pack("16b", -2, *[0] * 15)
    block = bytes([0x0F] + [0] * 127) + bytes([0b11] + [0] * 63) + scales + half(0.5)
    assert unpack(Format.Q6_K, block)[:2] == [-31.0, 32.0]


def test_floats_by_hand() -> None:
    assert unpack(Format.F32, struct.pack("<2f", 1.5, -0.25)) == [1.5, -0.25]
    assert unpack(Format.F16, half(1.5) + half(-0.25)) == [1.5, -0.25]
    assert unpack(Format.BF16, bytes([0xC0, 0x3F, 0x80, 0xBE])) == [1.5, -0.25]


def test_values_that_do_not_fill_blocks_are_a_programmers_error() -> None:
    with pytest.raises(AssertionError, match="blocks of Q4_0"):
        byte_size(Format.Q4_0, 33)


SMALLEST = 1e-43
"""What the coarse steps of the smallest f32 numbers may add."""


@given(
    rows=st.lists(
        st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=3, max_size=3),
        min_size=1,
        max_size=5,
    )
)
@example(rows=[[0.0, 0.0, 7.637076630570253e-43]])
def test_rows_of_int8_are_within_half_a_step(rows: list[list[float]]) -> None:
    weights = np.array(rows, np.float32)
    values, scales = quantize_rows(weights)
    assert values.dtype == np.int8
    assert scales.shape == (len(rows),)
    restored: NDArray[np.float64] = values.astype(np.float64) * scales[:, None]
    step = np.maximum(scales.astype(np.float64), np.abs(weights).max(axis=1) / 127)[:, None]
    assert (np.abs(restored - weights) <= step * 0.5001 + SMALLEST).all()


def test_rows_round_halves_to_even_and_zero_rows_stay_zero() -> None:
    values, scales = quantize_rows(np.array([[127, 0.5, 1.5, -2.5], [0, 0, 0, 0]], np.float32))
    assert values.tolist() == [[127, 0, 2, -2], [0, 0, 0, 0]]
    assert scales.tolist() == [1.0, 0.0]
