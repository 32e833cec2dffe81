from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from overclock.errors import InputError, ModelError
from overclock.model.formats import Format
from overclock.program.compiler import all_but, compile
from overclock.program.families import llama
from overclock.program.isa import Op
from overclock.program.passes import PASSES
from overclock.program.program import Element
from tests.program.models import decoder, encoder, opcodes

EXACT = [each.name for each in PASSES if not each.quantizes]


def test_default_mode_applies_all_passes() -> None:
    program = compile(decoder(format=Format.Q8_0))
    assert not program.exact
    assert opcodes(program, 0) == [
        Op.RMSNORM,
        Op.MATMUL,
        Op.ROPE_STORE,
        Op.ATTEND,
        Op.MATMUL,
        Op.RMSNORM,
        Op.GATED_MATMUL,
        Op.MATMUL,
    ]
    assert Op.QUANTIZE not in opcodes(program, 0)


@pytest.mark.parametrize("model", [decoder(format=Format.Q8_0), encoder()])
def test_exact_mode_has_no_int8_activation(model: Any) -> None:
    program = compile(model, exact=True, weight_format=Format.I8)
    assert program.exact
    assert all(buffer.element is Element.F32 for buffer in program.buffers.values())


def test_no_passes_is_the_plain_program() -> None:
    model = decoder()
    assert compile(model, passes=()) == replace(llama.write(model), exact=False)


def test_passes_are_applied_in_their_own_order() -> None:
    model = decoder(format=Format.Q8_0)
    names = [each.name for each in PASSES]
    assert compile(model, passes=names[::-1]) == compile(model)


def test_all_but() -> None:
    assert all_but(["fuse_gate"], exact=True) == tuple(n for n in EXACT if n != "fuse_gate")
    assert all_but([]) == tuple(each.name for each in PASSES)


def test_an_unknown_pass_is_refused_with_the_known_ones() -> None:
    for refuse in (lambda: compile(decoder(), passes=["fuse_all"]), lambda: all_but(["fuse_all"])):
        with pytest.raises(InputError, match="no pass 'fuse_all'; the passes are adapt_late, "):
            refuse()


def test_exact_mode_refuses_a_pass_that_rounds() -> None:
    with pytest.raises(InputError, match="quantize_activations quantises activations; exact"):
        compile(decoder(), exact=True, passes=["quantize_activations"])


def test_only_i8_can_be_asked_for() -> None:
    with pytest.raises(InputError, match="Q4_0"):
        compile(decoder(), weight_format=Format.Q4_0)


@pytest.mark.parametrize("site", ["blk.9.attn_q.weight", "blk.0.attn_norm.weight", "attn_q"])
def test_a_matrix_that_no_adapter_can_change_is_named(site: str) -> None:
    with pytest.raises(InputError, match=f"decoder has no matrix '{site}' that an adapter"):
        compile(decoder(), adapters=["blk.0.attn_q.weight", site])


def test_without_adapters_the_program_is_what_it_was() -> None:
    model = decoder(format=Format.Q8_0)
    assert compile(model, adapters=()) == compile(model)
    assert not compile(model).sites


def test_a_program_knows_the_sites_of_adapters() -> None:
    sites = ["blk.1.ffn_down.weight", "blk.0.attn_q.weight"]
    for passes in (None, ()):
        program = compile(decoder(), adapters=sites, passes=passes)
        assert dict(program.sites) == {
            "blk.0.attn_q.weight": (64, 128),
            "blk.1.ffn_down.weight": (96, 64),
        }


def test_an_unknown_family_is_named() -> None:
    model = decoder()
    config = replace(model.config, family="rwkv")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="family rwkv; known: llama, bert"):
        compile(replace(model, config=config))


def test_passes_say_what_they_gain() -> None:
    assert len({each.name for each in PASSES}) == len(PASSES)
    assert all(each.gain.endswith(".") for each in PASSES)
