"""Prepared prefixes on disk: the tokens and KV pages of a prompt that starts at once next time.

A safetensors file (`huggingface/safetensors`, README) with three tensors: `tokens` I32 [n],
`pages` U8 [pages, page_bytes] as the machine holds them, and `fingerprint` U8 [32] of the program,
weights and KV format that they were computed with.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overclock.errors import InputError, ModelError
from overclock.files import write_atomic
from overclock.model.checkpoint import Stored, read_safetensors
from overclock.model.model import Model
from overclock.program.program import PAGE_TOKENS, KvFormat, Program

SAMPLE = 4096
"""Bytes of each weight that the fingerprint looks at: another fine-tune differs in all of them."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """tokens ``[n]``, and the pages they stand in, ``u8[pages, page_bytes]``."""

    tokens: list[int]
    pages: NDArray[np.uint8]


def fingerprint(model: Model, program: Program, kv: KvFormat) -> bytes:
    """32 bytes that are equal only where the same tokens give the same KV pages."""
    digest = hashlib.sha256(f"{program.instructions}{program.constants}{kv}".encode())
    for name, tensor in sorted(model.weights.items()):
        digest.update(f"{name} {tensor.shape} {tensor.format.value}\n".encode())
        digest.update(tensor.data[:SAMPLE].tobytes())
        digest.update(tensor.data[-SAMPLE:].tobytes())
    return digest.digest()


def save(path: Path, prefix: Prefix, mark: bytes) -> None:
    """Write a prefix, whole or not at all. Raises InputError if the place cannot be written."""
    tokens = np.array(prefix.tokens, np.int32)
    arrays: dict[str, NDArray[np.int32] | NDArray[np.uint8]] = {
        "tokens": tokens,
        "pages": prefix.pages,
        "fingerprint": np.frombuffer(mark, np.uint8),
    }
    header: dict[str, object] = {}
    at = 0
    for name, array in arrays.items():
        kind = "I32" if array.dtype == np.int32 else "U8"
        stop = at + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, stop]}
        at = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts = [len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in arrays.values())]
    try:
        write_atomic(path, b"".join(parts))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def load(path: Path, mark: bytes, vocabulary: int, page_bytes: int) -> Prefix:
    """Read a prefix. Raises ModelError if the file is damaged, InputError if it is not there or was
    made by another model, program or KV format.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    stored = read_safetensors(path)
    made = _array(path, stored, "fingerprint", "U8", 1)
    if made.tobytes() != mark:
        raise InputError(
            f"{path} was made with another model, mode or KV format; prepare the prefix anew"
        )
    tokens = _array(path, stored, "tokens", "I32", 1).view(np.int32)
    pages = _array(path, stored, "pages", "U8", 2)
    count = -(-len(tokens) // PAGE_TOKENS)
    if not len(tokens) or pages.shape != (count, page_bytes):
        raise ModelError(f"{path}: {len(tokens)} tokens do not stand in pages {pages.shape}")
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        raise ModelError(f"{path}: a token is not in the vocabulary")
    return Prefix(tokens.tolist(), pages)


def _array(
    path: Path, stored: dict[str, Stored], name: str, kind: str, dimensions: int
) -> NDArray[np.uint8]:
    """A tensor's bytes: in its own shape if they are U8, else flat."""
    tensor = stored.get(name)
    if tensor is None or tensor.type != kind or len(tensor.shape) != dimensions:
        raise ModelError(f"{path}: {name} is missing or of another kind; it is no saved prefix")
    data = np.frombuffer(tensor.file, np.uint8, tensor.stop - tensor.start, tensor.start)
    return data.reshape(tensor.shape) if kind == "U8" else data.copy()
