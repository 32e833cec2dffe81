"""The logit lens: by hand, against the model's own answer, and against NumPy for every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock.errors import InputError
from overclock.explain import explainer, lens
from overclock.explain.lens import Lens
from overclock.machine.native import NativeMachine
from overclock.machine.reference_ops import gelu, rms_normalized
from overclock.model.model import Model
from overclock.program.compiler import compile
from tests.explain import rigs
from tests.machine.rig import decoder_batch, encoder_batch, page_table

Array = NDArray[np.float32]


def own_answer(name: str, ids: list[int], output: str) -> Array:
    """What the plain program says of a whole sequence."""
    model = rigs.model(name)
    machine = NativeMachine(1, kv="f32")
    machine.load(compile(model, exact=True, passes=()), model.weights, pages=4)
    row = np.array(ids, np.int32)
    if output == "logits":
        return machine.run(decoder_batch([row], [0], page_table([len(ids)]), [(0, len(ids))]))
    return machine.run(encoder_batch([row], output))


def answers(name: str, ids: list[int], places: list[int]) -> Array:
    """``f32[places, layers, columns]``."""
    return np.stack(list(rigs.explainer(name).answers(ids, places)))


@pytest.mark.parametrize("name", rigs.DECODERS)
def test_the_last_layer_says_what_the_model_says(name: str) -> None:
    ids = rigs.ids_of(name)
    found = answers(name, ids, list(range(len(ids))))
    np.testing.assert_array_equal(found[:, -1], own_answer(name, ids, "logits"))


@pytest.mark.parametrize("name", ["bert", "bert-sequence", "distilbert-sequence", "roberta-token"])
def test_the_last_layer_of_an_encoder_too(name: str) -> None:
    ids = rigs.ids_of(name)
    wanted = own_answer(name, ids, "scores")
    places = list(range(len(ids))) if len(wanted) > 1 else [0]
    found = answers(name, ids, places)
    np.testing.assert_array_equal(found[:, -1], wanted)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_places_may_go_in_many_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = rigs.ids_of(name)
    places = [0, 3, 4, len(ids) - 1]
    together = answers(name, ids, places)
    np.testing.assert_array_equal(together, answers(name, ids, list(range(len(ids))))[places])
    monkeypatch.setattr(explainer, "RUN_BYTES", 1)
    np.testing.assert_array_equal(answers(name, ids, places), together)


def stream(name: str, ids: list[int], buffer: str) -> Array:
    """A buffer of the plain program, from the reference machine."""
    model = rigs.explainer(name, "reference")
    batch = model._running.sequence(ids, range(len(ids)), model.compiled.output)
    return model._running.machine.tapped(batch, [buffer])[1][buffer]


def llama_head(model: Model, x: Array) -> Array:
    norm = model.weights["output_norm.weight"].dequantize()
    table = model.weights.get("output.weight", model.weights["token_embd.weight"]).dequantize()
    return np.asarray(rms_normalized(x, norm, model.config.norm_epsilon) @ table.T, np.float32)


def masked_head(model: Model, x: Array) -> Array:
    w = {name: tensor.dequantize() for name, tensor in model.weights.items()}
    y = gelu(x @ w["mlm.dense.weight"].T + w["mlm.dense.bias"])
    y = y - y.mean(axis=-1, keepdims=True)
    y /= np.sqrt((y * y).mean(axis=-1, keepdims=True) + model.config.norm_epsilon)
    y = y * w["mlm.norm.weight"] + w["mlm.norm.bias"]
    return np.asarray(y @ w["token_embd.weight"].T + w["mlm.output.bias"], np.float32)


@pytest.mark.parametrize(
    ("name", "buffer", "head"),
    [
        ("llama", "{}.ffn_x", llama_head),
        ("gemma3", "{}.ffn_x", llama_head),
        ("qwen3", "{}.ffn_x", llama_head),
        ("bert", "{}.ffn_x", masked_head),
    ],
)
def test_every_layer_says_what_its_stream_means(
    name: str, buffer: str, head: Callable[[Model, Array], Array]
) -> None:
    ids = rigs.ids_of(name)
    found = answers(name, ids, list(range(len(ids))))
    for layer in range(found.shape[1]):
        wanted = head(rigs.model(name), stream(name, ids, buffer.format(layer)))
        assert np.abs(found[:, layer] - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_lens_by_hand() -> None:
    logits = np.log(np.array([[[0.25, 0.25, 0.5], [0.5, 0.375, 0.125]]], np.float32)) + 3
    found = Lens.of(logits, [0], 2)
    assert found.top[:, 0].tolist() == [[2, 0], [0, 1]] or found.top[0, 0, 0] == 2
    np.testing.assert_allclose(found.shares[:, 0], [[0.5, 0.25], [0.5, 0.375]], atol=1e-6)
    np.testing.assert_allclose(found.probability[:, 0], [0.25, 0.5], atol=1e-6)
    assert found.rank[:, 0].tolist() == [1, 0]
    divergence = 0.5 * np.log(2) + 0.375 * np.log(1.5) + 0.125 * np.log(0.25)
    np.testing.assert_allclose(found.divergence[:, 0], [divergence, 0], atol=1e-6)


def test_more_columns_than_there_are_is_all() -> None:
    found = Lens.of(np.zeros((2, 3, 2), np.float32), [0, 1], 5)
    assert found.top.shape == (3, 2, 2)


def test_an_answer_is_settled_where_it_stays_the_likeliest() -> None:
    ranks = np.array([[0, 3, 0, 1], [1, 2, 0, 1], [0, 1, 0, 1], [0, 0, 0, 4]], np.int32)
    empty: Any = np.zeros((4, 4))
    assert Lens(empty, empty, empty, ranks, empty).settled().tolist() == [2, 3, 0, 4]


def test_a_joined_lens_has_all_places() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 3, 7)).astype(np.float32)
    whole = Lens.of(logits, [1, 2, 3, 4, 5], 3)
    parts = [Lens.of(logits[:2], [1, 2], 3), Lens.of(logits[2:], [3, 4, 5], 3)]
    for name in ("top", "shares", "probability", "rank", "divergence"):
        np.testing.assert_array_equal(getattr(Lens.joined(parts), name), getattr(whole, name))


def test_log_softmax_is_that_of_scipy() -> None:
    from scipy.special import log_softmax

    logits = np.random.default_rng(1).normal(scale=20, size=(4, 300)).astype(np.float32)
    wanted = log_softmax(logits.astype(np.float64), axis=-1)
    np.testing.assert_allclose(lens.log_softmax(logits), wanted, atol=2e-5)


def test_a_model_without_head_says_nothing() -> None:
    with pytest.raises(InputError, match="no head"):
        next(rigs.explainer("bert-mean").answers(rigs.ids_of("bert-mean"), [0]))
