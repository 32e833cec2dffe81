"""Changed models have the sizes that were asked for, and compile."""

from __future__ import annotations

import pytest

from overclock.errors import InputError
from overclock.model.formats import LAYOUTS, Format
from overclock.model.model import Model
from overclock.predict import variants
from overclock.program.compiler import compile
from overclock.program.isa import Op
from overclock.program.program import Program
from tests.machine import rig as machines


def ops(program: Program, op: Op) -> int:
    return sum(each.op is op for each in program.instructions)


def untouched(model: Model) -> bool:
    """Whether no value of a model was read: all of a variant's weights are zeros."""
    return all(not tensor.data.any() for tensor in model.weights.values())


@pytest.mark.parametrize("format", [Format.F16, Format.BF16, Format.Q8_0, Format.Q4_0])
@pytest.mark.parametrize("name", ["llama", "llama3", "gemma3", "bert-mean"])
def test_matrices_take_the_format(name: str, format: Format) -> None:
    model = machines.model(name)
    changed = variants.with_format(model, format)
    assert untouched(changed)
    tied = name == "llama" or name == "gemma3"
    for tensor in changed.weights.values():
        old = model.weights[tensor.name]
        is_table = tensor.name.startswith(("token_embd.w", "position_embd", "token_types"))
        is_product = len(tensor.shape) == 2 and (tied or not is_table)
        assert tensor.shape == old.shape
        assert tensor.format is (format if is_product else old.format)
        layout = LAYOUTS[tensor.format]
        assert tensor.data.nbytes == tensor.size // layout.elements * layout.bytes
    program = compile(changed)
    assert ops(program, Op.ATTEND) == ops(compile(model), Op.ATTEND)


def test_formats_that_do_not_fit_or_stand_in_no_file_are_refused() -> None:
    model = machines.model("llama")
    with pytest.raises(InputError, match="blocks of 256 that Q4_K has"):
        variants.with_format(model, Format.Q4_K)
    with pytest.raises(InputError, match="stands in no file"):
        variants.with_format(model, Format.I8)


@pytest.mark.parametrize("name", ["llama", "gemma3", "bert-mean"])
def test_layers_are_left_out_from_the_end(name: str) -> None:
    model = machines.model(name)
    changed = variants.without_layers(model, 1)
    layers = model.config.layers - 1
    assert changed.config.layers == layers
    assert untouched(changed)
    last = f"blk.{layers}."
    assert set(model.weights) - set(changed.weights) == {
        each for each in model.weights if each.startswith(last)
    }
    op = Op.ATTEND if model.config.family == "llama" else Op.ATTEND_ALL
    assert ops(compile(changed), op) == layers


@pytest.mark.parametrize("count", [0, -1, 2, 99])
def test_all_or_no_layers_cannot_be_left_out(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} layers cannot be left out of the 2"):
        variants.without_layers(machines.model("llama"), count)


@pytest.mark.parametrize("name", ["llama", "qwen3", "bert-mean"])
def test_a_narrow_feed_forward_part(name: str) -> None:
    model = machines.model(name)
    changed = variants.with_narrow_ffn(model, 0.5)
    old, new = model.config.ffn, model.config.ffn // 2
    assert changed.config.ffn == new
    for tensor in changed.weights.values():
        before = model.weights[tensor.name].shape
        inner = ".ffn_gate." in tensor.name or ".ffn_up." in tensor.name
        assert tensor.shape == (
            (new, *before[1:])
            if inner
            else (before[0], new)
            if ".ffn_down.weight" in tensor.name
            else before
        )
        assert inner <= (before[0] == old)
    compile(changed)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0, 2.0])
def test_a_width_that_rounds_to_nothing_or_all_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="feed-forward width of 64"):
        variants.with_narrow_ffn(machines.model("llama"), share)


def test_hollow_models_have_the_same_sizes_and_no_values() -> None:
    model = machines.model("all-types")
    hollow = variants.hollow(model)
    assert untouched(hollow)
    assert hollow.weight_bytes == model.weight_bytes
    assert compile(hollow).instructions == compile(model).instructions
