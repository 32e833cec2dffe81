"""Safetensors: what the library writes is read back, and what is broken is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save, save_file

from overclock.errors import ModelError
from overclock.model.checkpoint import INDEX, plain, read_safetensors, read_weights
from overclock.model.formats import Format
from overclock.model.model import Tensor

FUZZ = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def pack(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(kind: str, shape: object, start: int, stop: int) -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}


def read(folder: Path, data: bytes) -> Mapping[str, object]:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    return read_safetensors(path)


ARRAYS: dict[str, NDArray[np.generic]] = {
    "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "f16": np.arange(4, dtype=np.float16),
    "ids": np.arange(3, dtype=np.int64),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(ARRAYS, path, metadata={"format": "pt"})
    stored = read_safetensors(path)
    assert stored.keys() == ARRAYS.keys()
    for name in ("f32", "f16"):
        tensor = stored[name].tensor("new.name")
        assert (tensor.name, tensor.shape) == ("new.name", ARRAYS[name].shape)
        np.testing.assert_array_equal(tensor.dequantize(), ARRAYS[name])
    with pytest.raises(ModelError, match="'ids' is stored as I64; convert"):
        stored["ids"].tensor("ids")


def test_tensors_are_read_only_views_of_the_file(tmp_path: Path) -> None:
    save_file({"w": np.ones((2, 3), np.float32)}, tmp_path / "model.safetensors")
    data = read_weights(tmp_path)["w"].tensor("w").data
    assert not data.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1


def test_bfloat16_is_read(tmp_path: Path) -> None:
    data = pack({"w": entry("BF16", [2], 0, 4)}, bytes([0xC0, 0x3F, 0x80, 0xBE]))
    read(tmp_path, data)
    tensor = read_weights(tmp_path)["w"].tensor("w")
    assert tensor.format is Format.BF16
    assert tensor.dequantize().tolist() == [1.5, -0.25]


def test_data_at_a_crooked_place_is_copied(tmp_path: Path) -> None:
    header = json.dumps({"w": entry("F32", [1], 0, 4)}).encode()
    header += b" " * (-len(header) % 8 + 1)
    read(tmp_path, pack(header, struct.pack("<f", 2.5)))
    data = read_weights(tmp_path)["w"].tensor("w").data
    assert data.ctypes.data % 4 == 0
    assert data.view(np.float32).tolist() == [2.5]
    assert not data.flags.writeable


F32 = entry("F32", [1], 0, 4)
HOSTILE = {
    "no length": (b"1234", "header"),
    "a header beyond the file": (pack({}, length=2**63), "header of 9223372036854775808"),
    "a header of all bytes": (pack({}, length=10**9), "header of 1000000000"),
    "an empty header": (pack(b""), "header of 0"),
    "no JSON": (pack(b"{]"), "not JSON"),
    "no UTF-8": (pack(b'{"\xff":1}'), "not JSON"),
    "a list": (pack([]), "not a JSON object"),
    "JSON as deep as a well": (pack(b"[" * 50_000), "not JSON"),
    "a number as long as a street": (pack(b'{"a":' + b"9" * 10_000 + b"}"), "not JSON"),
    "a name twice": (
        pack(b'{"w":' + json.dumps(F32).encode() + b',"w":' + json.dumps(F32).encode() + b"}",
             bytes(4)), "appears twice"
    ),
    "an entry that is none": (pack({"w": 3}), "'w' is not an object"),
    "an unknown type": (pack({"w": entry("F33", [1], 0, 4)}, bytes(4)), "unknown type 'F33'"),
    "a type that is a list": (pack({"w": F32 | {"dtype": ["F32"]}}, bytes(4)), "unknown type"),
    "no shape": (pack({"w": F32 | {"shape": None}}, bytes(4)), "no proper shape"),
    "a negative size": (pack({"w": entry("F32", [-1], 0, 4)}, bytes(4)), "no proper shape"),
    "sizes that are no integers": (
        pack({"w": entry("F32", [1.0], 0, 4)}, bytes(4)), "no proper shape"
    ),
    "sizes that are truth": (pack({"w": entry("F32", [True], 0, 4)}, bytes(4)), "no proper shape"),
    "a shape that overflows": (
        pack({"w": entry("F32", [2**40, 2**40], 0, 4)}, bytes(4)), "does not fit"
    ),
    "many dimensions": (pack({"w": entry("F32", [1] * 99, 0, 4)}, bytes(4)), "no proper shape"),
    "three offsets": (pack({"w": F32 | {"data_offsets": [0, 4, 8]}}, bytes(8)), "no proper"),
    "an end before its start": (pack({"w": entry("F32", [1], 4, 0)}, bytes(4)), "does not fit"),
    "an end outside": (pack({"w": F32}, bytes(3)), "does not fit"),
    "a shape that is too large": (pack({"w": entry("F32", [2], 0, 4)}, bytes(4)), "does not fit"),
    "a hole": (pack({"w": entry("F32", [1], 4, 8)}, bytes(8)), "hole"),
    "an overlap": (
        pack({"v": entry("F32", [2], 0, 8), "w": entry("F32", [1], 4, 8)}, bytes(8)), "overlaps"
    ),
    "bytes too many": (pack({"w": F32}, bytes(5)), "end at byte"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, case: str) -> None:
    data, words = HOSTILE[case]
    with pytest.raises(ModelError, match=words) as caught:
        read(tmp_path, data)
    assert str(tmp_path) in str(caught.value)
    assert "download it again" in str(caught.value)


WHOLE = save({name: array for name, array in ARRAYS.items() if name != "empty"})


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(ModelError):
            read(tmp_path, WHOLE[:length])


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4))
def test_changed_bytes_never_crash(tmp_path: Path, edits: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, byte in edits:
        data[place] = byte
    with suppress(ModelError):
        read(tmp_path, bytes(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@FUZZ
@given(
    header=st.dictionaries(
        st.text(max_size=4),
        st.fixed_dictionaries(
            {"dtype": st.sampled_from(["F32", "F16", "I64", "F4"]) | JSON,
             "shape": st.lists(st.integers(0, 4), max_size=3) | JSON,
             "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2) | JSON}
        ) | JSON,
        max_size=3,
    ),
    size=st.integers(0, 64),
)  # fmt: skip
def test_any_header_makes_a_table_or_a_sentence(
    tmp_path: Path, header: dict[str, object], size: int
) -> None:
    with suppress(ModelError):
        read(tmp_path, pack(header, bytes(size)))


def shards(folder: Path, weight_map: object) -> None:
    save_file({"a": np.ones(2, np.float32)}, folder / "one.safetensors")
    save_file({"b": np.ones(3, np.float32)}, folder / "two.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards_are_read_together(tmp_path: Path) -> None:
    shards(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    stored = read_weights(tmp_path)
    assert {name: weight.path.name for name, weight in stored.items()} == {
        "a": "one.safetensors", "b": "two.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "one.safetensors", "b": "three.safetensors"}, "'three.safetensors'"),
        ({"a": "../one.safetensors"}, "names the file"),
        ({"a": "/etc/passwd"}, "names the file"),
        ({"a": 7}, "names no file"),
        ([], "weight_map is"),
        ({}, "names no file"),
        ({"a": "one.safetensors", "c": "one.safetensors"}, "'c'"),
    ],
)
def test_bad_indexes_are_refused(tmp_path: Path, weight_map: object, words: str) -> None:
    shards(tmp_path, weight_map)
    with pytest.raises(ModelError, match=words):
        read_weights(tmp_path)


def test_a_weight_in_two_shards_is_refused(tmp_path: Path) -> None:
    shards(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "two.safetensors")
    with pytest.raises(ModelError, match="'a', which one"):
        read_weights(tmp_path)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*convert it to safetensors"):
        read_weights(tmp_path)


def test_an_empty_directory_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a complete checkpoint"):
        read_weights(tmp_path)


def test_plain_adds_and_converts() -> None:
    half = Tensor("n", (2,), Format.F16, np.array([1.5, -2], np.float16).view(np.uint8))
    assert plain(half).dequantize().tolist() == [1.5, -2.0]
    assert plain(half).format is Format.F32
    assert plain(half, 1.0).dequantize().tolist() == [2.5, -1.0]
    assert plain(plain(half)) is not half
    single = plain(half)
    assert plain(single) is single
    assert not single.data.flags.writeable
