"""Writes GGUF files for tests, well formed or broken on purpose."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def value(item: object) -> bytes:
    """A metadata value with the number of its type in front."""
    if isinstance(item, bool):
        return u32(7) + struct.pack("<?", item)
    if isinstance(item, int):
        return u32(4) + u32(item)
    if isinstance(item, float):
        return u32(6) + struct.pack("<f", item)
    if isinstance(item, str | bytes):
        return u32(8) + string(item)
    if isinstance(item, np.ndarray):
        kinds = {"f": 6, "i": 5, "I": 4, "B": 0, "q": 11, "?": 7}
        return u32(9) + u32(kinds[item.dtype.char]) + u64(len(item)) + item.tobytes()
    assert isinstance(item, list)
    return u32(9) + u32(8) + u64(len(item)) + b"".join(map(string, item))


def entry(name: str | bytes, dimensions: Sequence[int], kind: int, start: int) -> bytes:
    """A line of the table of tensors; `dimensions` in GGUF's order."""
    shape = b"".join(map(u64, dimensions))
    return string(name) + u32(len(dimensions)) + shape + u32(kind) + u64(start)


@dataclass
class File:
    """The parts of a GGUF file; counts and version can be set to lies."""

    metadata: list[bytes] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    data: bytes = b""
    magic: bytes = b"GGUF"
    version: bytes = u32(3)
    tensor_count: int | None = None
    key_count: int | None = None
    alignment: int = 32

    def key(self, name: str | bytes, item: object) -> File:
        self.metadata.append(string(name) + value(item))
        return self

    def tensor(self, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> File:
        """Append an F32 tensor."""
        start = len(self.data) + -len(self.data) % self.alignment
        self.data = self.data.ljust(start, b"\0") + array.astype("<f4").tobytes()
        self.entries.append(entry(name, array.shape[::-1], 0, start))
        return self

    def bytes(self) -> bytes:
        tensors = len(self.entries) if self.tensor_count is None else self.tensor_count
        keys = len(self.metadata) if self.key_count is None else self.key_count
        head = self.magic + self.version + u64(tensors) + u64(keys)
        head += b"".join(self.metadata) + b"".join(self.entries)
        return head.ljust(len(head) + -len(head) % self.alignment, b"\0") + self.data


TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", "b"]


def tiny_llama(extra: Iterable[tuple[str, object]] = (), layers: int = 1) -> File:
    """A complete Llama of width 8 with two heads and a tokenizer, weights at random."""
    rng = np.random.default_rng(3)
    shapes = {
        "token_embd.weight": (len(TOKENS), 8),
        "output_norm.weight": (8,),
    }
    for layer in range(layers):
        shapes |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (8,),
                "attn_q": (8, 8),
                "attn_k": (4, 8),
                "attn_v": (4, 8),
                "attn_output": (8, 8),
                "ffn_norm": (8,),
                "ffn_gate": (12, 8),
                "ffn_up": (12, 8),
                "ffn_down": (8, 12),
            }.items()
        }
    file = File()
    for key, item in {**tiny_metadata(layers), **dict(extra)}.items():
        if item is not None:
            file.key(key, item)
    for name, shape in shapes.items():
        file.tensor(name, rng.standard_normal(shape).astype(np.float32))
    return file


def tiny_metadata(layers: int = 1) -> dict[str, object]:
    types = [2, 3, 3, *[6] * 256, 1, 1]
    return {
        "general.architecture": "llama",
        "llama.block_count": layers,
        "llama.context_length": 64,
        "llama.embedding_length": 8,
        "llama.feed_forward_length": 12,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.scores": -np.arange(len(TOKENS), dtype=np.float32),
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
