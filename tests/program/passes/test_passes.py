"""Whatever passes are chosen, the program stays well formed and means the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.machine.machine import Batch
from overclock.machine.reference import ReferenceMachine
from overclock.model.adapter import Adapter
from overclock.model.formats import Format
from overclock.model.model import Model
from overclock.program.compiler import compile
from overclock.program.passes import PASSES
from overclock.program.program import Program
from tests.adapters import adapter
from tests.program.models import BERT, decoder, encoder, gemma

MODELS = {
    "llama": decoder(),
    "qwen2": decoder(biases=True, untied=True),
    "qwen3": decoder(head_norms=True),
    "gemma3": gemma(),
    "masked_lm": encoder(replace(BERT, head="masked_lm")),
    "sequence": encoder(replace(BERT, head="sequence", pooling="cls", normalize=True)),
    "token": encoder(replace(BERT, head="token", position_offset=2), token_types=False),
    "llama-q8": decoder(format=Format.Q8_0),
    "masked_lm-q8": encoder(replace(BERT, head="masked_lm"), format=Format.Q8_0),
}
EXACT = [each.name for each in PASSES if not each.quantizes]
BATCH = Batch(
    token_ids=np.arange(3, 15, dtype=np.int32),
    starts=np.array([0, 7, 12], np.int32),
    contexts=np.zeros(2, np.int32),
    pages=np.array([[1], [0]], np.int32),
    output_rows=np.array([11, 6, 2], np.int32),
    output="",
    token_types=np.zeros(12, np.int32),
)


ADAPTERS = {
    name: (adapter(model, rank=3), adapter(model, seed=1)) for name, model in MODELS.items()
}
SITES = {name: [*both[0].sites] for name, both in ADAPTERS.items()}


def outputs(
    program: Program, model: Model, adapters: Sequence[Adapter] = ()
) -> dict[str, NDArray[np.float32]]:
    """What the reference machine computes for every output."""
    machine = ReferenceMachine(kv="f32")
    machine.load(program, model.weights, pages=2)
    machine.set_adapters(adapters)
    batch = BATCH if model.config.family == "bert" else replace(BATCH, token_types=None)
    if adapters:
        batch = replace(batch, adapters=np.array([2, 1], np.int32))
    return {name: machine.run(replace(batch, output=name)) for name in program.outputs}


@cache
def plain(name: str, weight_format: Format | None) -> dict[str, NDArray[np.float32]]:
    """The outputs of the program as its family writes it."""
    program = compile(MODELS[name], exact=True, weight_format=weight_format, passes=())
    return outputs(program, MODELS[name])


@pytest.mark.parametrize("weight_format", [None, Format.I8])
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=8)
@given(chosen=st.sets(st.sampled_from(EXACT)))
def test_exact_passes_change_no_result(
    name: str, weight_format: Format | None, chosen: set[str]
) -> None:
    model = MODELS[name]
    program = compile(model, exact=True, weight_format=weight_format, passes=chosen)
    for output, values in outputs(program, model).items():
        np.testing.assert_allclose(values, plain(name, weight_format)[output], atol=2e-5)


@cache
def plainly_adapted(name: str) -> dict[str, NDArray[np.float32]]:
    """The same with an adapter for each sequence."""
    program = compile(MODELS[name], exact=True, passes=(), adapters=SITES[name])
    return outputs(program, MODELS[name], ADAPTERS[name])


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=8)
@given(data=st.data())
def test_exact_passes_change_no_result_of_an_adapter(name: str, data: st.DataObject) -> None:
    model, chosen = MODELS[name], data.draw(st.sets(st.sampled_from(EXACT)))
    program = compile(model, exact=True, passes=chosen, adapters=SITES[name])
    for output, values in outputs(program, model, ADAPTERS[name]).items():
        np.testing.assert_allclose(values, plainly_adapted(name)[output], atol=2e-5)
        assert np.abs(values - plain(name, None)[output]).max() > 0.01


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=8)
@given(chosen=st.sets(st.sampled_from(EXACT)))
def test_who_rounds_changes_no_result(name: str, chosen: set[str]) -> None:
    model = MODELS[name]
    rounding = [
        outputs(compile(model, weight_format=Format.I8, passes={*chosen, *names}), model)
        for names in (["quantize_activations"], ["quantize_activations", "fuse_quantize"])
    ]
    for output, values in rounding[0].items():
        np.testing.assert_allclose(values, rounding[1][output], atol=1e-6)


@pytest.mark.parametrize("name", ["llama-q8", "masked_lm-q8", "gemma3", "sequence"])
def test_rounding_is_close_but_not_the_same(name: str) -> None:
    model = MODELS[name]
    rounded = outputs(compile(model, weight_format=Format.I8), model)
    for output, values in rounded.items():
        exact = plain(name, Format.I8)[output]
        assert 0 < np.abs(values - exact).max() < 0.1 * exact.std() + 0.02


@pytest.mark.parametrize("name", MODELS)
def test_every_pass_can_be_left_out_and_can_stand_alone(name: str) -> None:
    names = [each.name for each in PASSES]
    for left_out in names:
        compile(MODELS[name], weight_format=Format.I8, passes=set(names) - {left_out})
        compile(MODELS[name], weight_format=Format.I8, passes=[left_out])
        compile(MODELS[name], passes=set(names) - {left_out}, adapters=SITES[name])
        compile(MODELS[name], passes=[left_out], adapters=SITES[name])


@pytest.mark.parametrize("name", MODELS)
def test_applying_all_passes_twice_is_applying_them_once(name: str) -> None:
    for adapters in ((), SITES[name]):
        once = compile(MODELS[name], weight_format=Format.I8, adapters=adapters)
        again = once
        for each in PASSES:
            again = each.apply(again)
        assert again == once
