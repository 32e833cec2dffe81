"""The face of an encoder, on the tiny checkpoints and the reference machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock import Encoder, encoder
from overclock.clock.settings import ClockSettings
from overclock.errors import InputError
from tests.checkpoints import FIXTURES

TEXTS = ["hello", "how are you all", "the quick brown fox", "x"]
DEFAULTS: dict[str, Any] = {"threads": 2}
Arrays = dict[str, NDArray[Any]]
GiveIds = Callable[[Encoder, list[NDArray[Any]]], None]
NAMES = ["bert", "bert-cls", "bert-mean", "bert-sequence", "distilbert-sequence", "roberta-token"]


@pytest.fixture(autouse=True, params=["reference", "native"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native":
        pytest.importorskip("overclock.machine.native", exc_type=ImportError)
    monkeypatch.setitem(DEFAULTS, "machine", request.param)


def opened(name: str, **options: Any) -> Encoder:
    return Encoder(FIXTURES / name, **DEFAULTS, **options)


def arrays(name: str) -> Arrays:
    """What transformers computes for texts of one part."""
    with np.load(FIXTURES / name / "expected.npz") as file:
        found = dict(file)
    assert not any(found[f"types_{n}"].any() for n in "01")
    return found


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    powers: NDArray[Any] = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: NDArray[Any] = powers / powers.sum(axis=-1, keepdims=True)
    return result


@pytest.fixture
def given_ids(monkeypatch: pytest.MonkeyPatch) -> GiveIds:
    """An encoder that takes the ids of expected.npz for its texts' tokens."""

    def give(model: Encoder, ids: list[NDArray[Any]]) -> None:
        monkeypatch.setattr(model, "encode", lambda texts: [row.tolist() for row in ids])

    return give


@pytest.mark.parametrize("name", ["distilbert-sequence", "roberta-token"])
def test_vectors_are_those_of_transformers(name: str, given_ids: GiveIds) -> None:
    expected = arrays(name)
    with opened(name, exact=True) as model:
        given_ids(model, [expected["ids_0"], expected["ids_1"]])
        vectors, states = model.embed(TEXTS[:2]), model.hidden_states(TEXTS[:2])
    for n in range(2):
        assert np.allclose(states[n], expected[f"hidden_{n}"], atol=1e-3)
        assert np.allclose(vectors[n], expected[f"embedding_{n}"], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_order_and_company_change_nothing(name: str) -> None:
    with opened(name) as model:
        together = model.embed(TEXTS)
        alone = np.concatenate([model.embed(text) for text in TEXTS])
        assert together.shape == (len(TEXTS), model.width)
        assert together.dtype == np.float32
        assert np.allclose(together, alone, atol=1e-5)
        states = model.hidden_states(TEXTS)
        assert [len(rows) for rows in states] == [len(ids) for ids in model.encode(TEXTS)]


def test_many_texts_go_in_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("bert-mean") as model:
        whole = model.embed(TEXTS * 3)
    monkeypatch.setattr(encoder, "SETTINGS", ClockSettings(tick_tokens=10, streams=1))
    with opened("bert-mean") as model:
        assert np.allclose(model.embed(TEXTS * 3), whole, atol=1e-5)
        assert len(model.hidden_states(TEXTS * 3)) == 12


def test_int8_weights_are_close() -> None:
    with opened("bert-mean") as model, opened("bert-mean", weights="int8") as small:
        one, two = model.embed(TEXTS), small.embed(TEXTS)
    cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert cosine.min() > 0.99


def test_long_texts_are_cut_and_keep_their_end() -> None:
    with opened("bert-mean") as model:
        [long] = model.encode("word " * 500)
        limit = model.model.config.sentence_tokens or model.model.config.context
        assert len(long) == limit
        assert long[-1] == model.model.tokenizer.sep_id
        assert long[0] == model.model.tokenizer.cls_id
        assert model.embed("word " * 500).shape == (1, model.width)


def test_an_empty_text_has_a_vector_too() -> None:
    with opened("bert-mean") as model:
        assert np.isfinite(model.embed("")).all()


def test_sequence_classes(given_ids: GiveIds) -> None:
    expected = arrays("distilbert-sequence")
    with opened("distilbert-sequence", exact=True) as model:
        given_ids(model, [expected["ids_1"]])
        [found] = model.classify_texts("x")
        labels = model.model.config.labels
    scores = softmax(expected["scores_1"])
    assert list(found.scores) == list(labels)
    assert np.allclose(list(found.scores.values()), scores, atol=1e-3)
    assert found.label == labels[scores.argmax()]


def test_token_classes() -> None:
    with opened("roberta-token") as model:
        results = model.label_tokens(TEXTS)
        assert model.classify(TEXTS) == results
        tokenizer = model.model.tokenizer
        for text, labels in zip(TEXTS, results, strict=True):
            ids = tokenizer.encode(text, add_bos=False)
            assert [each.token for each in labels] == [tokenizer.token(i) for i in ids]
            assert all(each.label in model.model.config.labels for each in labels)
            assert all(0 < each.score <= 1 for each in labels)


def test_masks_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("bert") as model:
        [one, two] = model.fill_masks(["hello [MASK] and [MASK]", "[MASK]"])
        assert [len(one), len(two)] == [2, 1]
        assert two[0].position == 1
        assert two[0].scores == sorted(two[0].scores, reverse=True)
        assert len(two[0].tokens) == 5
        assert sum(two[0].scores) <= 1
        monkeypatch.setattr(encoder, "LOGITS_BYTES", 1)
        [again] = model.fill_masks(["hello [MASK] and [MASK]"])
        assert [each.tokens for each in again] == [each.tokens for each in one]


@pytest.mark.parametrize("texts", [[], [1], [None], 5])
def test_impossible_texts_are_refused(texts: Any) -> None:
    with opened("bert-mean") as model, pytest.raises((InputError, TypeError)):
        model.embed(texts)


def test_a_text_without_mask_is_refused() -> None:
    with opened("bert") as model, pytest.raises(InputError, match=r"\[MASK\]"):
        model.classify("nothing is missing")


def test_no_head_no_classes() -> None:
    with opened("bert-mean") as model, pytest.raises(InputError, match="no classification head"):
        model.classify("x")


def test_another_head_is_told() -> None:
    with opened("bert") as model:
        for method in (model.classify_texts, model.label_tokens):
            with pytest.raises(InputError, match="masked_lm"):
                method("x")


def test_a_language_model_is_no_encoder() -> None:
    with pytest.raises(InputError, match="LLM"):
        opened("llama")


def test_impossible_weights_are_refused() -> None:
    with pytest.raises(InputError, match="int8"):
        opened("bert", weights="int4")


def test_a_closed_encoder_says_so() -> None:
    model = opened("bert")
    model.close()
    with pytest.raises(InputError, match="closed"):
        model.embed("x")
