"""`/v1/embeddings`: what a body asks for, and its answer."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from overclock.openai.errors import ApiError
from overclock.openai.fields import Fields

MOST_TEXTS = 2048
"""OpenAI's limit."""

MOST_WIDTH = 1 << 20


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to be embedded.

    width: numbers of each vector that are wanted; None for all of them
    """

    model: str | None
    texts: list[str]
    width: int | None
    as_base64: bool


class EmbeddingObject(TypedDict):
    """One vector: numbers, or the base64 of little-endian f32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """How many tokens the texts had."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """The answer: a vector for every text."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


def parse_embedding(value: object) -> EmbeddingRequest:
    """The request of a body. Raises ApiError, which names the field, for what is wrong."""
    body = Fields(value)
    model = body.text("model")
    texts = _texts(body)
    width = body.whole("dimensions", 1, MOST_WIDTH)
    form = body.one_of("encoding_format", ("float", "base64"))
    body.ignore("user")
    body.done()
    return EmbeddingRequest(model, texts, width, form == "base64")


def _texts(body: Fields) -> list[str]:
    value = body.take("input")
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and 0 < len(value) <= MOST_TEXTS:
        texts = [each for each in value if isinstance(each, str)]
        if len(texts) == len(value):
            return texts
        # Clients that count tokens send those of OpenAI's own models, which mean nothing here.
        raise ApiError("input must be text: token ids of another model say nothing", param="input")
    raise body.wrong("input", value, f"text or a list of 1 to {MOST_TEXTS} texts")


def check_width(request: EmbeddingRequest, width: int) -> None:
    """Raise ApiError if more numbers are wanted than the model's `width`."""
    if request.width is not None and request.width > width:
        raise ApiError(
            f"dimensions is {request.width}; this model's vectors have {width} numbers",
            param="dimensions",
        )


def embedding_list(
    request: EmbeddingRequest, vectors: NDArray[np.float32], tokens: int, model: str
) -> EmbeddingList:
    """The answer for the `vectors` ``f32[n, D]`` of a request's texts, which had `tokens`."""
    rows = shortened(vectors, request.width)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(row, request.as_base64)}
            for index, row in enumerate(rows)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def shortened(vectors: NDArray[np.float32], width: int | None) -> NDArray[np.float32]:
    """The first `width` numbers of each vector, ``f32[n, width]``, scaled to length 1.

    What was trained for it (Kusupati et al. 2022, Matryoshka representations) stays comparable.
    """
    if width is None:
        return vectors
    cut = vectors[:, :width]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return (cut / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _written(row: NDArray[np.float32], as_base64: bool) -> list[float] | str:
    if as_base64:
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    numbers: list[float] = row.tolist()
    return numbers
