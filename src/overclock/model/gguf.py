"""The GGUF container: metadata and tensors of one memory-mapped file.

Source: the GGUF specification (ggml repository, `docs/gguf.md`), versions 2 and 3. Nothing in a
file is trusted: every length, count, offset and type is checked before it is used, and whatever
is wrong becomes a `ModelError` that names the file and the place.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.errors import ModelError
from overclock.model.formats import GGUF_TYPES, LAYOUTS, Format, byte_size
from overclock.model.mapped import map_file
from overclock.model.model import Tensor
from overclock.model.strings import read_strings

Value: TypeAlias = int | float | bool | str | list[str] | NDArray[np.generic]
"""A metadata value; an array of numbers is a read-only NumPy array."""

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
MAX_ENTRIES: Final = 1 << 16  # tensors, and metadata keys: far above any real file
MAX_DIMENSIONS: Final = 4
MAX_NAME: Final = 1 << 16  # bytes of a key or a tensor's name
DEFAULT_ALIGNMENT: Final = 32

_STRING: Final = 8
_ARRAY: Final = 9
_BOOL: Final = 7
_SCALARS: Final[dict[int, struct.Struct]] = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"
    }.items()
}  # fmt: skip
_U32: Final = _SCALARS[4]
_U64: Final = _SCALARS[10]

_UNSUPPORTED: Final[dict[int, str]] = {
    4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
    19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16",
    26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
    40: "NVFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gguf:
    """What a GGUF file holds. Tensors are views of the mapped file, in the file's order."""

    path: Path
    version: int
    metadata: Mapping[str, Value]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor's line in the table: `start` counts from the beginning of the data section."""

    name: str
    shape: tuple[int, ...]
    format: Format
    start: int

    @property
    def stop(self) -> int:
        return self.start + byte_size(self.format, math.prod(self.shape))


def read_gguf(path: Path) -> Gguf:
    """Map `path` and read its metadata and its table of tensors.

    Raises ModelError if anything about the file is not as the specification says.
    """
    reader = _Reader(path, map_file(path))
    version, tensor_count, key_count = reader.header()
    metadata = reader.metadata(key_count)
    if _integer(metadata, "split.count", 1) > 1:
        raise ModelError(f"{path} is one part of a split model; join it with gguf-split --merge")
    entries = [reader.entry() for _ in range(tensor_count)]
    return Gguf(path, version, metadata, _tensors(reader, entries, _alignment(path, metadata)))


class _Reader:
    """A position in the file that only moves forward, and never past the end."""

    def __init__(self, path: Path, map: mmap.mmap) -> None:
        self.path = path
        self.map = map
        self.size = len(map)
        self.position = 0

    def damaged(self, what: str) -> ModelError:
        """The error for a file that breaks the format at the current position."""
        return ModelError(
            f"{self.path} is damaged or not a GGUF file: {what} (at byte {self.position}); "
            "download it again"
        )

    def take(self, count: int, what: str) -> int:
        """Move over `count` bytes; the position before them."""
        start = self.position
        if count > self.size - start:
            raise self.damaged(f"it ends inside {what}")
        self.position = start + count
        return start

    def scalar(self, kind: struct.Struct, what: str) -> int:
        """The next number (or truth value), which is known to be an integer."""
        value: int = kind.unpack_from(self.map, self.take(kind.size, what))[0]
        return value

    def count(self, what: str, at_least: int, limit: int) -> int:
        """The next u64, as a number of things that take `at_least` bytes each."""
        number = self.scalar(_U64, what)
        if number > limit or number * at_least > self.size - self.position:
            raise self.damaged(f"{number} {what} cannot be in {self.size} bytes")
        return number

    def name(self, what: str) -> str:
        """The next string, which names something."""
        length = self.count(f"bytes in {what}", 1, MAX_NAME)
        start = self.take(length, what)
        return self.map[start : self.position].decode("utf-8", "backslashreplace")

    def header(self) -> tuple[int, int, int]:
        """Version, number of tensors, number of metadata keys."""
        if self.size < len(MAGIC) or self.map[: len(MAGIC)] != MAGIC:
            raise self.damaged("it does not start with GGUF")
        self.take(len(MAGIC), "its magic")
        self._check_version(version := self.scalar(_U32, "its version"))
        tensors = self.count("tensors", 24, MAX_ENTRIES)
        return version, tensors, self.count("metadata keys", 13, MAX_ENTRIES)

    def _check_version(self, version: int) -> None:
        if version in VERSIONS:
            return
        if version and version & 0xFFFF == 0:
            raise ModelError(
                f"{self.path} is a big-endian GGUF file; convert it to little-endian, "
                "for example with gguf-py's gguf-convert-endian"
            )
        raise ModelError(
            f"{self.path} has GGUF version {version}; versions 2 and 3 are known: "
            "fetch or convert a newer file"
        )

    def metadata(self, count: int) -> dict[str, Value]:
        """The next `count` keys with their values."""
        metadata: dict[str, Value] = {}
        for _ in range(count):
            key = self.name("a metadata key")
            if key in metadata:
                raise self.damaged(f"metadata key {key!r} appears twice")
            metadata[key] = self.value(key, self.scalar(_U32, f"the type of {key!r}"))
        return metadata

    def value(self, key: str, kind: int) -> Value:
        """The next value, of the type with number `kind`."""
        if kind == _STRING:
            length = self.count(f"bytes in {key!r}", 1, self.size)
            start = self.take(length, repr(key))
            return self.map[start : self.position].decode("utf-8", "surrogateescape")
        if kind == _ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            raise self.damaged(f"{key!r} has the unknown value type {kind}")
        scalar = _SCALARS[kind]
        start = self.take(scalar.size, repr(key))
        value: Value = scalar.unpack_from(self.map, start)[0]
        return value

    def array(self, key: str) -> Value:
        """The next array: a list of strings, or an array of numbers that is a view of the file."""
        kind = self.scalar(_U32, f"the element type of {key!r}")
        if kind == _ARRAY:
            raise self.damaged(f"{key!r} is an array of arrays, which no known key is")
        if kind == _STRING:
            count = self.count(f"strings in {key!r}", 8, self.size)
            return self.strings(key, count)
        if kind not in _SCALARS:
            raise self.damaged(f"{key!r} has the unknown element type {kind}")
        scalar = _SCALARS[kind]
        count = self.count(f"values in {key!r}", scalar.size, self.size)
        start = self.take(count * scalar.size, repr(key))
        dtype = np.dtype("?" if kind == _BOOL else scalar.format)
        return np.frombuffer(self.map, dtype, count, start)

    def strings(self, key: str, count: int) -> list[str]:
        """The next `count` strings; bytes that are not UTF-8 become lone surrogates."""
        strings, stop = read_strings(self.map, self.position, count)
        if len(strings) < count:
            raise self.damaged(f"it ends inside {key!r}")
        self.position = stop
        return strings

    def entry(self) -> _Entry:
        """The next line of the table of tensors."""
        name = self.name("a tensor's name")
        dimensions = self.scalar(_U32, f"the shape of {name!r}")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self.damaged(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self.scalar(_U64, f"the shape of {name!r}") for _ in range(dimensions))
        format = self.format(name, self.scalar(_U32, f"the type of {name!r}"))
        start = self.scalar(_U64, f"the place of {name!r}")
        self._check_shape(name, shape, format)
        return _Entry(name, shape[::-1], format, start)

    def format(self, name: str, number: int) -> Format:
        """The format with GGUF's `number`."""
        if number in GGUF_TYPES:
            return GGUF_TYPES[number]
        if number in _UNSUPPORTED:
            known = " ".join(format for format in LAYOUTS)
            raise ModelError(
                f"{self.path}: tensor {name!r} is stored as {_UNSUPPORTED[number]}, which has no "
                f"kernel here; fetch the model in one of {known}"
            )
        raise self.damaged(f"tensor {name!r} has the unknown type {number}")

    def _check_shape(self, name: str, shape: tuple[int, ...], format: Format) -> None:
        """`shape` is in GGUF's order: the length of a row first."""
        if min(shape) < 1 or math.prod(shape) > self.size * LAYOUTS[format].elements:
            raise self.damaged(f"tensor {name!r} has the impossible shape {list(shape)}")
        if shape[0] % LAYOUTS[format].elements:
            raise self.damaged(f"rows of {shape[0]} values in {name!r} do not fill {format} blocks")


def _integer(metadata: Mapping[str, Value], key: str, default: int) -> int:
    value = metadata.get(key, default)
    return value if isinstance(value, int) else default


def _alignment(path: Path, metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
        raise ModelError(
            f"{path}: general.alignment is {str(alignment)[:40]}, not a power of two from 8 up; "
            "the file is damaged, download it again"
        )
    return alignment


def _tensors(reader: _Reader, entries: Sequence[_Entry], alignment: int) -> dict[str, Tensor]:
    base = -(-reader.position // alignment) * alignment
    _check_places(reader, entries, alignment, reader.size - base)
    data = np.frombuffer(reader.map, np.uint8)
    return {
        e.name: Tensor(e.name, e.shape, e.format, data[base + e.start : base + e.stop])
        for e in entries
    }


def _check_places(
    reader: _Reader, entries: Sequence[_Entry], alignment: int, available: int
) -> None:
    """Every tensor is aligned, inside of the file, has a name and a place of its own."""
    if len({entry.name for entry in entries}) < len(entries):
        raise reader.damaged("two tensors have the same name")
    end, before = 0, ""
    for entry in sorted(entries, key=lambda entry: entry.start):
        if entry.start % alignment:
            raise reader.damaged(f"tensor {entry.name!r} is not aligned to {alignment} bytes")
        if entry.stop > available:
            raise reader.damaged(f"tensor {entry.name!r} lies outside of the file")
        if entry.start < end:
            raise reader.damaged(f"tensors {before!r} and {entry.name!r} overlap")
        end, before = entry.stop, entry.name
