"""Hugging Face checkpoints: a directory with config.json and safetensors, memory-mapped.

Source: the safetensors format (`huggingface/safetensors`, README): a u64 length, that many bytes
of JSON, then the data. It is read here and not with the safetensors library because that gives
NumPy copies of the weights and no bfloat16, while a model's weights must stay views of the mapped
file; the format's own rules (no holes, no overlaps, sizes that fit) are checked here as strictly.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from overclock.errors import ModelError
from overclock.model.fields import Fields, read_json
from overclock.model.formats import Format
from overclock.model.mapped import map_file
from overclock.model.model import Tensor

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
CONFIG: Final = "config.json"
MAX_HEADER: Final = 100_000_000  # bytes, the format's own limit
MAX_DIMENSIONS: Final = 8

_FORMATS: Final = {"F32": Format.F32, "F16": Format.F16, "BF16": Format.BF16}
_ITEM_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a safetensors file, of any type; `data` is ``uint8[bytes]`` of the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    stop: int
    file: mmap.mmap
    path: Path

    def tensor(self, name: str) -> Tensor:
        """A view of the file under the canonical `name`.

        Raises ModelError for a type other than F32, F16 and BF16.
        """
        if self.type not in _FORMATS:
            raise ModelError(
                f"{self.path}: weight {self.name!r} is stored as {self.type}; "
                "convert the checkpoint to F32, F16 or BF16"
            )
        data = np.frombuffer(self.file, np.uint8, self.stop - self.start, self.start)
        if self.start % np.dtype(np.float32).itemsize:  # kernels read whole numbers
            data = data.copy()
            data.flags.writeable = False
        return Tensor(name, self.shape, _FORMATS[self.type], data)


def read_weights(directory: Path) -> dict[str, Stored]:
    """All tensors of the checkpoint in `directory` by the names that its files give them.

    Raises ModelError if files are missing, are pickles, or break the format.
    """
    tensors: dict[str, Stored] = {}
    for path in _shards(directory):
        for name, stored in read_safetensors(path).items():
            if name in tensors:
                raise ModelError(
                    f"{path} holds {name!r}, which {tensors[name].path.name} holds as well; "
                    "download the checkpoint again"
                )
            tensors[name] = stored
    if (directory / INDEX).is_file():
        _check_index(directory / INDEX, tensors)
    return tensors


def _check_index(index: Path, tensors: Mapping[str, Stored]) -> None:
    """Every weight of the index is in the file that the index names."""
    for name, file in _weight_map(index).items():
        if name not in tensors or tensors[name].path.name != file:
            raise ModelError(
                f"{index} says that {name!r} is in {file}, but it is not; "
                "download the checkpoint again"
            )


def has_weights(directory: Path) -> bool:
    """Whether `directory` holds a checkpoint that can be read."""
    return (directory / CONFIG).is_file() and any(directory.glob("*.safetensors"))


def _shards(directory: Path) -> list[Path]:
    if (directory / INDEX).is_file():
        return _indexed_shards(directory / INDEX)
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    found = sorted(directory.glob("*.safetensors"))
    if len(found) == 1:
        return found
    pickles = [path.name for path in directory.glob("*") if path.suffix in _PICKLES]
    if pickles and not found:
        raise ModelError(
            f"{directory} holds {min(pickles)}, a format that may run code when it is read; "
            "convert it to safetensors, for example with transformers' save_pretrained"
        )
    raise ModelError(
        f"{directory} has no {WEIGHTS} and no {INDEX}: it is not a complete checkpoint"
    )


def _weight_map(index: Path) -> dict[str, str]:
    """Name of a weight → name of its file."""
    weight_map = Fields(index, read_json(index)).section("weight_map").values
    return {name: file for name, file in weight_map.items() if isinstance(file, str)}


def _indexed_shards(index: Path) -> list[Path]:
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ModelError(
                f"{index} names the file {name[:80]!r}, which is not beside it; "
                "download the checkpoint again"
            )
    if not names:
        raise ModelError(f"{index} names no file; download the checkpoint again")
    return [index.parent / name for name in names]


def read_safetensors(path: Path) -> dict[str, Stored]:
    """The table of a safetensors file.

    Raises ModelError if anything about the file is not as the format says.
    """
    file = map_file(path)
    base = _header_size(path, file)
    header = _header(path, file[8:base])
    tensors = {
        name: _stored(path, file, base, name, entry)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    _check_places(path, tensors.values(), base, len(file))
    return tensors


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} is damaged or not a safetensors file: {what}; download it again")


def _header_size(path: Path, file: mmap.mmap) -> int:
    """Where the header ends and the data starts."""
    size = int.from_bytes(file[:8], "little")
    if len(file) < 8 or not 2 <= size <= min(MAX_HEADER, len(file) - 8):
        raise _damaged(path, f"its header of {size} bytes is not in its {len(file)} bytes")
    return 8 + size


def _header(path: Path, text: bytes) -> dict[str, object]:
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({str(error)[:80]})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    return header


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name appears twice")
    return result


def _stored(path: Path, file: mmap.mmap, base: int, name: str, entry: object) -> Stored:
    """One line of the table, its numbers checked; `base` is where the data starts."""
    if not isinstance(entry, dict):
        raise _damaged(path, f"the entry of {name!r} is not an object")
    kind = entry.get("dtype")
    if not isinstance(kind, str) or kind not in _ITEM_BITS:
        raise _damaged(path, f"{name!r} has the unknown type {str(kind)[:40]!r}")
    shape = _sizes(entry.get("shape"))
    offsets = _sizes(entry.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise _damaged(path, f"{name!r} has no proper shape and place")
    start, stop = base + offsets[0], base + offsets[1]
    bits = math.prod(shape) * _ITEM_BITS[kind]
    if not start <= stop <= len(file) or bits != (stop - start) * 8:
        raise _damaged(path, f"{name!r} of shape {shape} does not fit its place in the file")
    return Stored(name, kind, shape, start, stop, file, path)


def _sizes(values: object) -> tuple[int, ...] | None:
    """A short list of non-negative integers, or None."""
    if not isinstance(values, list) or len(values) > MAX_DIMENSIONS:
        return None
    if not all(type(value) is int and 0 <= value < 1 << 48 for value in values):
        return None
    return tuple(values)


def _check_places(path: Path, tensors: Iterable[Stored], base: int, size: int) -> None:
    """The tensors fill the data section without holes and overlaps."""
    end = base
    for stored in sorted(tensors, key=lambda stored: (stored.start, stored.stop)):
        if stored.start != end:
            what = "overlaps another" if stored.start < end else "leaves a hole before it"
            raise _damaged(path, f"{stored.name!r} {what}")
        end = stored.stop
    if end != size:
        raise _damaged(path, f"its tensors end at byte {end} of {size}")


def plain(tensor: Tensor, plus: float = 0.0) -> Tensor:
    """`tensor` as F32 with `plus` added to every value; itself if that changes nothing.

    For norms and biases, which are small and which every machine wants in F32. Gemma's norm
    weights are stored less one.
    """
    if tensor.format is Format.F32 and not plus:
        return tensor
    data = (tensor.dequantize() + np.float32(plus)).reshape(-1).view(np.uint8)
    data.flags.writeable = False
    return Tensor(tensor.name, tensor.shape, Format.F32, data)


def tensors(stored: Mapping[str, Stored], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors by canonical name; `names` gives the name in the file of each."""
    return {name: stored[original].tensor(name) for name, original in names.items()}
