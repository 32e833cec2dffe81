"""Attention maps against those that the reference machine computes, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock.errors import InputError
from overclock.explain import attention, explainer
from overclock.explain.compiled import Attention
from overclock.explain.looks import surveyed
from overclock.machine import reference_ops
from overclock.machine.reference import ReferenceMachine
from overclock.program.compiler import compile
from tests.explain import rigs
from tests.machine.rig import decoder_batch, encoder_batch, page_table

Array = NDArray[np.float32]
NAMES = [*rigs.DECODERS, *rigs.ENCODERS]
SITE = Attention("q", "k", heads=1, kv_heads=1, scale=1.0, window=0, is_causal=True)


def reference_maps(name: str, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """What the reference machine's attention weighs values with, ``f32[heads, T, T]`` a layer."""
    seen: list[Array] = []
    softmax = reference_ops.softmax

    def watched(scores: Array) -> Array:
        seen.append(softmax(scores))
        return seen[-1]

    model = rigs.model(name)
    program = compile(model, exact=True)
    machine = ReferenceMachine(kv="f32")
    machine.load(program, model.weights, pages=4)
    row = np.array(ids, np.int32)
    monkeypatch.setattr(reference_ops, "softmax", watched)
    if model.config.family == "bert":
        machine.run(encoder_batch([row], "embedding"))
    else:
        machine.run(decoder_batch([row], [0], page_table([len(ids)]), [(0, len(ids))]))
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_those_of_the_reference_machine(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = rigs.ids_of(name)
    maps = rigs.explainer(name).all_maps(ids)
    config = rigs.model(name).config
    assert maps.shape == (config.layers, config.heads, len(ids), len(ids))
    wanted = np.stack(reference_maps(name, ids, monkeypatch))
    assert np.abs(maps - wanted).max() < 2e-5
    assert np.allclose(maps.sum(axis=-1), 1, atol=1e-5)
    assert (maps >= 0).all()


@pytest.mark.parametrize("name", rigs.DECODERS)
def test_nobody_looks_ahead_or_out_of_the_window(name: str) -> None:
    ids = rigs.ids_of(name)
    model = rigs.explainer(name)
    for site, maps in zip(model.sites, model.maps(ids), strict=True):
        row, column = np.indices(maps.shape[1:])
        assert not maps[:, column > row].any()
        if site.window:
            assert not maps[:, column <= row - site.window].any()
            assert (maps[:, column == row - site.window + 1] > 0).all()


def test_windows_are_where_the_model_has_them() -> None:
    assert {site.window for site in rigs.explainer("mistral").sites} == {9}
    assert {site.window for site in rigs.explainer("gemma3").sites} == {0, 8}
    assert {site.window for site in rigs.explainer("llama").sites} == {0}


def test_few_layers_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = rigs.ids_of("gemma3")
    model = rigs.explainer("gemma3")
    whole = model.all_maps(ids)
    monkeypatch.setattr(explainer, "TAPS_BYTES", 1)
    np.testing.assert_array_equal(model.all_maps(ids), whole)
    [one] = model.maps(ids, [1])
    np.testing.assert_array_equal(one, whole[1])


def test_probabilities_by_hand() -> None:
    q = np.array([[1.0], [1.0]], np.float32)
    k = np.array([[0.0], [np.log(3)]], np.float32)
    found = attention.probabilities(SITE, q, k)
    np.testing.assert_allclose(found, np.array([[[1, 0], [0.25, 0.75]]]), atol=1e-6)


def test_rollout_by_hand() -> None:
    first = np.array([[[1, 0], [0.5, 0.5]]], np.float32)
    second = np.array([[[1, 0], [1, 0]], [[1, 0], [0, 1]]], np.float32)  # mean: 1 0, ½ ½
    step = np.array([[1, 0], [0.25, 0.75]])
    np.testing.assert_allclose(attention.rolled_out([first]), step)
    np.testing.assert_allclose(attention.rolled_out([first, second]), step @ step)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_rollout_sum_to_one(name: str) -> None:
    ids = rigs.ids_of(name)
    rolled = rigs.explainer(name).rollout(ids)
    assert np.allclose(rolled.sum(axis=1), 1, atol=1e-5)
    assert (rolled >= 0).all()


def test_entropy_and_what_is_received_by_hand() -> None:
    maps = np.array([[[1, 0], [0.5, 0.5]], [[1, 0], [1, 0]]], np.float32)
    np.testing.assert_allclose(attention.entropy(maps), [np.log(2) / 2, 0], atol=1e-6)
    # The first token is seen twice, the second only by itself.
    np.testing.assert_allclose(attention.received(SITE, maps), [(1 + 0.75) / 2, 0.25])


@pytest.mark.parametrize("name", ["gemma3", "bert"])
@pytest.mark.parametrize(("layer", "head"), [(None, None), (1, None), (None, 1), (1, 1)])
def test_a_survey_is_what_the_maps_say(name: str, layer: int | None, head: int | None) -> None:
    ids = rigs.ids_of(name)
    model = rigs.explainer(name)
    maps = model.all_maps(ids)
    looks = surveyed(model.sites, model.maps(ids), layer=layer, head=head, keep=True)
    chosen = maps if layer is None else maps[[layer]]
    chosen = chosen if head is None else chosen[:, [head]]
    np.testing.assert_allclose(looks.map, chosen.mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(looks.rollout, attention.rolled_out(list(maps)), atol=1e-6)
    assert looks.entropy.shape == maps.shape[:2]
    assert looks.kept is not None
    assert np.abs((looks.kept / 255) ** 2 - maps).max() < 1 / 255
    np.testing.assert_allclose(looks.of((1, 3)), looks.map[[1, 3]].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(looks.of((2,), rolled=True), looks.rollout[2])


def test_of_many_maps_only_the_means_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = rigs.ids_of("llama")
    model = rigs.explainer("llama")
    monkeypatch.setattr("overclock.explain.looks.KEPT_BYTES", 1)
    kept = surveyed(model.sites, model.maps(ids), keep=True).kept
    assert kept is not None
    assert kept.shape[1] == 1
    means = model.all_maps(ids).mean(axis=1, keepdims=True)
    assert np.abs((kept / 255) ** 2 - means).max() < 1 / 255


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = rigs.explainer("llama")
    with pytest.raises(InputError, match="129 tokens, but an explanation takes at most 128"):
        next(model.maps([3] * 129))
    with pytest.raises(InputError, match="give some text"):
        next(model.maps([]))
    monkeypatch.setattr(explainer, "MAPS_BYTES", 4 * 2 * 4 * 9)
    with pytest.raises(InputError, match="at most 3 tokens"):
        model.all_maps([3] * 4)
    assert model.all_maps([3] * 3).shape == (2, 4, 3, 3)


def test_layers_and_heads_that_there_are_not() -> None:
    model = rigs.explainer("llama")
    model.check_layer(1, 3)
    with pytest.raises(InputError, match="no layer 2; its layers are 0 to 1"):
        model.check_layer(2, None)
    with pytest.raises(InputError, match="no head -1; its heads are 0 to 3"):
        model.check_layer(None, -1)
