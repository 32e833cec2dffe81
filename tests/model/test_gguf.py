"""GGUF files: what the gguf package writes is read back, and what is broken is refused."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from overclock.errors import ModelError
from overclock.model.formats import GGUF_TYPES, LAYOUTS, Format, byte_size
from overclock.model.gguf import Gguf, read_gguf
from overclock.model.load import load_gguf
from tests.model.gguf_writer import File, entry, string, tiny_llama, u32, u64, value


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return path


def read(folder: Path, file: File) -> Gguf:
    return read_gguf(write(folder, file.bytes()))


def refuse(folder: Path, file: File, words: str) -> None:
    path = write(folder, file.bytes())
    with pytest.raises(ModelError, match=words) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)


def test_what_the_gguf_package_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("u8", 200)
    writer.add_int16("i16", -300)
    writer.add_uint64("u64", 2**63)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "Grüße 👩‍🚀")
    writer.add_array("words", ["", "a", "b" * 300, "end"])
    writer.add_array("numbers", [1, -2, 3])
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((3, 5)).astype(np.float32)
    packed = rng.integers(0, 256, (4, byte_size(Format.Q4_K, 512)), dtype=np.uint8)
    writer.add_tensor("matrix", matrix)
    writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = read_gguf(path)
    assert file.version == 3
    numbers = file.metadata["numbers"]
    assert isinstance(numbers, np.ndarray)
    assert numbers.tolist() == [1, -2, 3]
    assert {k: v for k, v in file.metadata.items() if k != "numbers"} == {
        "general.architecture": "llama", "u8": 200, "i16": -300, "u64": 2**63, "f64": 0.1,
        "yes": True, "text": "Grüße 👩‍🚀", "words": ["", "a", "b" * 300, "end"],
    }  # fmt: skip
    np.testing.assert_array_equal(file.tensors["matrix"].dequantize(), matrix)
    assert file.tensors["packed"].shape == (4, 512)
    assert file.tensors["packed"].format is Format.Q4_K
    assert file.tensors["packed"].data.tobytes() == packed.tobytes()


def test_tensors_are_read_only_views_of_the_file(tmp_path: Path) -> None:
    tensor = read(tmp_path, File().tensor("w", np.ones((2, 4), np.float32))).tensors["w"]
    assert not tensor.data.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        tensor.data[0] = 1


@pytest.mark.parametrize("number", GGUF_TYPES)
def test_every_type_is_read(tmp_path: Path, number: int) -> None:
    format = GGUF_TYPES[number]
    columns = LAYOUTS[format].elements * 2
    data = bytes(range(256)) * 40
    file = File(entries=[entry("w", (columns, 3), number, 0)], data=data)
    tensor = read(tmp_path, file).tensors["w"]
    assert (tensor.shape, tensor.format) == ((3, columns), format)
    assert tensor.data.tobytes() == data[: byte_size(format, 3 * columns)]


def test_strings_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    file = read(tmp_path, File().key("a", b"x\xff").key("b", [b"\xe2\x82", b"ok", b"\0"]))
    assert file.metadata == {"a": "x\udcff", "b": ["\udce2\udc82", "ok", "\0"]}


HOSTILE = {
    "not GGUF": (File(magic=b"GGML"), "does not start with GGUF"),
    "version 1": (File(version=u32(1)), "GGUF version 1"),
    "version 9": (File(version=u32(9)), "GGUF version 9"),
    "big-endian": (File(version=struct.pack(">I", 3)), "big-endian"),
    "a billion tensors": (File(tensor_count=10**9), "1000000000 tensors"),
    "2⁶⁴ − 1 tensors": (File(tensor_count=2**64 - 1), "tensors cannot be"),
    "too many keys": (File(key_count=2**60), "metadata keys cannot be"),
    "a key too long": (File(metadata=[u64(2**63) + b"k"]), "bytes in a metadata key"),
    "a string too long": (File(metadata=[string("k") + u32(8) + u64(2**40)]), "bytes in 'k'"),
    "an unknown value type": (File(metadata=[string("k") + u32(99)]), "value type 99"),
    "an unknown element type": (
        File(metadata=[string("k") + u32(9) + u32(77) + u64(0)]), "element type 77"
    ),
    "an array in an array": (
        File(metadata=[string("k") + u32(9) + u32(9) + u64(1)]), "array of arrays"
    ),
    "too many numbers": (
        File(metadata=[string("k") + u32(9) + u32(10) + u64(2**61)]), "values in 'k'"
    ),
    "too many strings": (
        File(metadata=[string("k") + u32(9) + u32(8) + u64(2**61)]), "strings in 'k'"
    ),
    "strings that run out": (
        File(metadata=[string("k") + u32(9) + u32(8) + u64(3) + string("a") + u64(2**40)]
             , data=bytes(100)), "ends inside 'k'"
    ),
    "the same key twice": (File().key("k", 1).key("k", 2), "appears twice"),
    "no dimensions": (File(entries=[entry("w", (), 0, 0)]), "0 dimensions"),
    "many dimensions": (File(entries=[entry("w", (1,) * 9, 0, 0)]), "9 dimensions"),
    "an empty dimension": (File(entries=[entry("w", (0, 4), 0, 0)]), "impossible shape"),
    "a shape that overflows": (
        File(entries=[entry("w", (2**32, 2**32), 0, 0)]), "impossible shape"
    ),
    "an unknown tensor type": (File(entries=[entry("w", (4,), 77, 0)]), "unknown type 77"),
    "a type without a kernel": (File(entries=[entry("w", (256,), 16, 0)]), "IQ2_XXS"),
    "rows that fill no block": (
        File(entries=[entry("w", (33,), 2, 0)], data=bytes(99)), "do not fill Q4_0"
    ),
    "a place outside": (
        File(entries=[entry("w", (4,), 0, 2**63)], data=bytes(64)), "outside of the file"
    ),
    "an end outside": (
        File(entries=[entry("w", (32,), 0, 0)], data=bytes(64)), "outside of the file"
    ),
    "a crooked place": (
        File(entries=[entry("w", (4,), 0, 4)], data=bytes(64)), "not aligned to 32"
    ),
    "two in one place": (
        File(entries=[entry("v", (16,), 0, 0), entry("w", (4,), 0, 32)], data=bytes(96)), "overlap"
    ),
    "two of one name": (
        File(entries=[entry("w", (4,), 0, 0), entry("w", (4,), 0, 32)], data=bytes(96)),
        "same name",
    ),
    "alignment 0": (File().key("general.alignment", 0), "general.alignment is 0"),
    "alignment 48": (File().key("general.alignment", 48), "general.alignment is 48"),
    "alignment in words": (File().key("general.alignment", "x"), "general.alignment"),
    "one part of many": (File().key("split.count", 3), "split model"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, case: str) -> None:
    file, words = HOSTILE[case]
    refuse(tmp_path, file, words)


def test_an_empty_file_a_missing_one_and_a_directory_are_refused(tmp_path: Path) -> None:
    for path in (write(tmp_path, b""), tmp_path / "missing.gguf", tmp_path):
        with pytest.raises(ModelError, match=str(path)):
            read_gguf(path)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path = write(tmp_path, tiny_llama().bytes())
    path.chmod(0)
    with pytest.raises(ModelError, match="Permission denied"):
        read_gguf(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tiny_llama().bytes()
    for length in [*range(400), *range(400, len(whole), 97)]:
        with pytest.raises(ModelError):
            load_gguf(write(tmp_path, whole[:length]))


WHOLE = tiny_llama().bytes()


def accept_or_refuse(folder: Path, data: bytes) -> None:
    """Loading either works or raises ModelError; anything else fails the test."""
    with suppress(ModelError):
        load_gguf(write(folder, data)).text.get()


FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(edits=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6))
@example(edits=[(4, 2)])
def test_changed_bytes_never_crash(tmp_path: Path, edits: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, byte in edits:
        data[place] = byte
    accept_or_refuse(tmp_path, bytes(data))


@FUZZ
@given(place=st.integers(8, 6000), number=st.sampled_from([0, 1, 2**31, 2**32, 2**63, 2**64 - 1]))
def test_changed_numbers_never_crash(tmp_path: Path, place: int, number: int) -> None:
    accept_or_refuse(tmp_path, WHOLE[:place] + u64(number) + WHOLE[place + 8 :])


@FUZZ
@given(start=st.integers(0, 6000), length=st.integers(1, 400), data=st.binary(max_size=40))
def test_cut_and_grown_files_never_crash(
    tmp_path: Path, start: int, length: int, data: bytes
) -> None:
    accept_or_refuse(tmp_path, WHOLE[:start] + data + WHOLE[start + length :])


KEYS = list(tiny_llama().metadata)


@FUZZ
@given(
    index=st.integers(0, len(KEYS) - 1),
    item=st.one_of(
        st.integers(0, 2**32 - 1),
        st.floats(width=32),
        st.booleans(),
        st.text(max_size=9),
        st.lists(st.text(max_size=3), max_size=3),
        st.just(np.arange(3, dtype=np.int32)),
    ),
)
def test_values_of_other_types_never_crash(tmp_path: Path, index: int, item: object) -> None:
    file = tiny_llama()
    line = file.metadata[index]
    name = line[8 : 8 + struct.unpack_from("<Q", line)[0]]
    file.metadata[index] = string(name) + value(item)
    accept_or_refuse(tmp_path, file.bytes())
