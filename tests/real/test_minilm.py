"""MiniLM against the reference machine, and against what transformers gave once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock import Encoder
from tests.real.models import real

pytestmark = pytest.mark.real

Array = NDArray[np.float32]
FLOAT, INT8 = 0.99999, 0.999
INT8_LEAST = 0.99
"""Of any text: those without a sentence in them are the farthest."""

_STORED = np.load(Path(__file__).with_name("minilm.npz"))  # made by make_minilm_vectors.py
TEXTS: list[str] = _STORED["texts"].tolist()
SENTENCES = [
    "The stock market fell sharply on Monday after the bank raised its rates.",
    "She sells sea shells by the sea shore.",
    "Quantum entanglement links the states of particles that are far apart.",
    "Please reset my password; I cannot log in since yesterday evening.",
    "The recipe calls for two eggs, a cup of flour and a pinch of salt.",
    "Scientists have found water on a planet far outside our solar system.",
    "He missed the last train and had to walk home in the rain.",
    "This museum shows paintings of the nineteenth century.",
    "How do I change the battery of my phone?",
    "The children built a castle of sand on the beach.",
    "Inflation is expected to slow down over the coming year.",
    "El perro corre por el parque mientras los niños juegan.",
    "SELECT name, COUNT(*) FROM users GROUP BY name HAVING COUNT(*) > 1;",
    "Her latest novel is a quiet story of two sisters and their father.",
    "Turn left at the church, then take the second street on the right.",
    "Regular exercise lowers the risk of heart disease.",
]
ODD = ["", "?!", "機械学習は面白い。", "one two three four five six seven eight nine ten " * 20]
ALL = [*TEXTS, *SENTENCES, *ODD]


def vectors(weights: Literal["int8"] | None = None, exact: bool = False) -> Array:
    with Encoder(real("minilm"), weights=weights, exact=exact) as encoder:
        return encoder.embed(ALL)


@cache
def reference() -> Array:
    with Encoder(real("minilm"), exact=True, machine="reference") as encoder:
        return encoder.embed(ALL)


def cosines(ours: Array, theirs: Array) -> Array:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    found: Array = (ours * theirs).sum(axis=1) / lengths
    return found


def test_the_reference_machine_is_transformers() -> None:
    assert cosines(reference()[: len(TEXTS)], _STORED["vectors"]).min() >= FLOAT


@pytest.mark.parametrize("exact", [False, True])
def test_f32_weights(exact: bool) -> None:
    ours = vectors(exact=exact)
    assert cosines(ours, reference()).min() >= FLOAT
    assert cosines(ours[: len(TEXTS)], _STORED["vectors"]).min() >= FLOAT


def test_int8_weights() -> None:
    found = cosines(vectors("int8"), reference())
    assert found[len(TEXTS) : -len(ODD)].mean() >= INT8
    assert found.min() >= INT8_LEAST


def test_vectors_have_length_one_and_near_texts_are_near() -> None:
    with Encoder(real("minilm")) as encoder:
        cat, kitten, tax = encoder.embed(["a cat", "a kitten", "the tax office"])
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > 0.6 > cat @ tax
