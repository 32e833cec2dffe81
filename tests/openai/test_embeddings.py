"""Vectors as the API gives them."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from numpy.typing import NDArray
from openai.types import CreateEmbeddingResponse

from overclock.openai.embeddings import check_width, embedding_list, parse_embedding, shortened
from overclock.openai.errors import ApiError

VECTORS: NDArray[np.float32] = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)


def test_numbers_and_base64_say_the_same() -> None:
    answers = [
        embedding_list(
            parse_embedding({"input": ["a", "b"], "encoding_format": form}), VECTORS, 7, "m"
        )
        for form in ("float", "base64")
    ]
    found = CreateEmbeddingResponse.model_validate_json(json.dumps(answers[0]), strict=True)
    assert [each.index for each in found.data] == [0, 1]
    assert (found.usage.prompt_tokens, found.usage.total_tokens, found.model) == (7, 7, "m")
    for row, plain, packed in zip(VECTORS, answers[0]["data"], answers[1]["data"]):
        assert np.array_equal(np.array(plain["embedding"], np.float32), row)
        assert isinstance(packed["embedding"], str)
        assert np.array_equal(np.frombuffer(base64.b64decode(packed["embedding"]), "<f4"), row)


def test_fewer_dimensions_are_the_first_ones_at_length_one() -> None:
    cut = shortened(VECTORS, 3)
    assert cut.shape == (2, 3)
    assert cut.dtype == np.float32
    assert np.allclose(np.linalg.norm(cut, axis=1), 1)
    assert np.allclose(cut / cut[:, :1], VECTORS[:, :3] / VECTORS[:, :1], rtol=1e-5)
    assert shortened(VECTORS, None) is VECTORS
    assert np.array_equal(shortened(np.zeros((1, 4), np.float32), 2), np.zeros((1, 2)))


def test_more_dimensions_than_there_are() -> None:
    request = parse_embedding({"input": "a", "dimensions": 9})
    check_width(request, 9)
    with pytest.raises(ApiError) as caught:
        check_width(request, 8)
    assert caught.value.param == "dimensions"
