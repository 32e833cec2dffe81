"""What a model is once its files are read: configuration, weights, tokenizer, chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overclock.model import formats
from overclock.model.formats import Format
from overclock.model.later import Later

if TYPE_CHECKING:
    from overclock.model.chat import ChatTemplate
    from overclock.model.tokenizer import Tokenizer

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "tanh"]
RopeStyle = Literal["halves", "interleaved"]
Pooling = Literal["none", "mean", "cls"]
Head = Literal["none", "masked_lm", "sequence", "token"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One weight in the bits of its file.

    `shape` is row-major as mathematics writes it, ``(out_features, in_features)`` for a matrix.
    `data` is a read-only ``uint8[bytes]`` view of the memory-mapped file.
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    data: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def dequantize(self) -> NDArray[np.float32]:
        """The values as ``f32[shape]``, a fresh array."""
        return formats.dequantize(self.data, self.format, self.size).reshape(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A Transformer's sizes and choices, whatever file format they came from.

    Frequencies are given ready to use, so that no machine needs to know a scaling scheme.
    """

    family: Literal["llama", "bert"]
    architecture: str  # as the file names it: llama, qwen2, qwen3, gemma3, bert, roberta …
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    context: int
    norm_epsilon: float
    activation: Activation

    # decoders
    rope_style: RopeStyle = "halves"
    rope_frequencies: tuple[float, ...] = ()  # radians per position, [head_dim / 2]
    local_rope_frequencies: tuple[float, ...] = ()  # of sliding-window layers, if they differ
    sliding_window: int | None = None  # a token sees itself and window − 1 before it
    sliding_layers: tuple[bool, ...] = ()  # per layer; empty: none slides
    attention_scale: float = 0.0  # what q·k is multiplied by
    embedding_scale: float = 1.0
    tied_embeddings: bool = True

    # encoders
    pooling: Pooling = "none"
    normalize: bool = False  # sentence embeddings are scaled to length 1
    position_offset: int = 0  # RoBERTa counts positions from padding_id + 1
    sentence_tokens: int | None = None  # longer texts are cut to this before they are embedded
    head: Head = "none"
    head_activation: Activation = "tanh"  # of the dense layer before a sequence classifier
    labels: tuple[str, ...] = ()


class Text(NamedTuple):
    """How text becomes tokens and messages become text."""

    tokenizer: Tokenizer
    chat_template: ChatTemplate | None


@dataclass(frozen=True)
class Model:
    """A model ready to be compiled. Weights stay memory-mapped in the file's own form.

    `weights` uses the names that GGUF uses, with or without GGUF behind it
    (see `overclock.model.names`). `text` is not needed to compile, and may not be read yet.
    """

    name: str
    path: Path
    config: Config
    weights: Mapping[str, Tensor]
    text: Later[Text]

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises TokenizerError if it is read only now, and cannot be used."""
        return self.text.get().tokenizer

    @property
    def chat_template(self) -> ChatTemplate | None:
        """The chat template, if the model has one. Raises as `tokenizer` does."""
        return self.text.get().chat_template

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all weights as stored."""
        return sum(tensor.data.nbytes for tensor in self.weights.values())
