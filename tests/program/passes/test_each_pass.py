"""What each pass makes of a program, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.isa import Op
from overclock.program.passes import adapt_in_place, fuse_residual, remove_dead
from overclock.program.program import Element, Operand, Program, Rows
from tests.program.models import BERT, LLAMA, decoder, encoder, gemma, names, only, opcodes

Q8 = decoder(format=Format.Q8_0)


def elements(program: Program) -> dict[str, Element]:
    return {name: buffer.element for name, buffer in program.buffers.items()}


def adapted(layer: int, *parts: str) -> list[str]:
    return [f"blk.{layer}.{part}.weight" for part in parts]


# -- adapt_late and adapt_in_place ------------------------------------------------------------


def test_adapt_late_leaves_the_product_beside_its_residual() -> None:
    sites = adapted(0, "attn_output", "ffn_down")
    program = compile(decoder(), passes=["adapt_late"], adapters=sites)
    found = opcodes(program, 0)
    assert found[8:] == [
        Op.MATMUL,
        Op.ADD,
        Op.ADAPT,
        Op.RMSNORM,
        Op.MATMUL,
        Op.MATMUL,
        Op.GATE,
        Op.MATMUL,
        Op.ADD,
        Op.ADAPT,
    ]
    late = next(each for each in program.instructions if each.op is Op.ADAPT)
    assert names(late.inputs["a"]) == ["0.attn_x_base"]
    assert names(late.outputs["y"]) == ["0.attn_x"]


def test_adapt_late_does_not_pass_a_norm() -> None:
    sites = adapted(0, "attn_output", "ffn_down")
    late = compile(gemma(), passes=["adapt_late"], adapters=sites)
    assert late == compile(gemma(), passes=[], adapters=sites)


@pytest.mark.parametrize("part", ["attn_output", "ffn_down"])
def test_a_residual_is_fused_and_kept_in_its_buffer_under_an_adapter(part: str) -> None:
    model = decoder(format=Format.Q8_0)
    program = compile(model, adapters=adapted(0, part))
    adapt = only(program, Op.ADAPT, 0)
    before = program.instructions[program.instructions.index(adapt) - 1]
    assert names(before.inputs["residual"]) == names(before.outputs["y"]) == ["x"]
    assert names(adapt.inputs["a"]) == names(adapt.outputs["y"]) == ["x"]
    assert elements(program)[adapt.inputs["x"][0].buffer] is Element.F32


def test_merged_projections_are_adapted_in_their_own_columns() -> None:
    program = compile(Q8, adapters=adapted(0, "attn_q", "attn_v"))
    merged = next(i for i in program.instructions if i.op is Op.MATMUL)
    whole = merged.outputs["y"][0].buffer
    assert len(merged.inputs["w"]) == 3
    adapts = [i for i in program.instructions if i.op is Op.ADAPT]
    assert [names(i.outputs["y"]) for i in adapts] == [[f"{whole}[0:128]"], [f"{whole}[192:256]"]]
    assert [i.inputs["a"] for i in adapts] == [i.outputs["y"] for i in adapts]
    (norm,) = (i for i in program.instructions if i.outputs.get("y") == adapts[0].inputs["x"])
    assert list(norm.outputs) == ["y", "q"]


def test_a_gate_is_not_fused_over_an_adapter() -> None:
    program = compile(Q8, adapters=adapted(0, "ffn_up"))
    assert Op.GATED_MATMUL not in opcodes(program, 0)
    assert Op.GATED_MATMUL in opcodes(program, 1)
    at = opcodes(program, 0).index(Op.ADAPT)
    assert opcodes(program, 0)[at - 1 : at + 2] == [Op.MATMUL, Op.ADAPT, Op.GATE]


def test_an_activation_is_not_fused_over_an_adapter() -> None:
    program = compile(encoder(), adapters=adapted(0, "ffn_up"))
    at = opcodes(program, 0).index(Op.ADAPT)
    assert opcodes(program, 0)[at - 1 : at + 2] == [Op.MATMUL, Op.ADAPT, Op.ACTIVATE]


def test_select_early_takes_adapters_along() -> None:
    program = compile(decoder(), adapters=adapted(1, "attn_output", "ffn_gate", "ffn_down"))
    adapts = [i for i in program.instructions if i.op is Op.ADAPT]
    assert len(adapts) == 3
    rows = {program.buffers[o.buffer].rows for i in adapts for o in (*i.reads(), *i.writes())}
    assert rows == {Rows.SELECTED}


def test_adapt_in_place_leaves_what_others_want() -> None:
    program = compile(decoder(), passes=[], adapters=adapted(0, "attn_v"))
    adapt = only(program, Op.ADAPT, 0)
    old = adapt.inputs["a"][0]
    assert adapt_in_place.apply(program) != program
    wanted = replace(program, outputs={**program.outputs, "old": old})
    assert adapt_in_place.apply(wanted) == wanted


# -- select_early -----------------------------------------------------------------------------


def test_select_early_leaves_only_wanted_rows_to_the_end_of_the_last_layer() -> None:
    program = compile(decoder(), passes=["select_early"])
    last = opcodes(program, 1)
    assert last[8:] == [
        Op.SELECT,
        Op.MATMUL,
        Op.SELECT,
        Op.ADD,
        Op.RMSNORM,
        Op.MATMUL,
        Op.MATMUL,
        Op.GATE,
        Op.MATMUL,
        Op.ADD,
    ]
    after = program.instructions[program.instructions.index(only(program, Op.ATTEND, 1)) + 1 :]
    rows = {program.buffers[o.buffer].rows for each in after for o in each.writes()}
    assert rows == {Rows.SELECTED}
    assert Op.SELECT not in opcodes(program, 0)


def test_select_early_does_not_move_past_what_others_read() -> None:
    model = encoder(replace(BERT, head="masked_lm"))
    assert compile(model, passes=["select_early"]) == compile(model, passes=[])


# -- fuse_gate --------------------------------------------------------------------------------


def test_fuse_gate() -> None:
    gated = only(compile(decoder(), passes=["fuse_gate"]), Op.GATED_MATMUL, 0)
    assert {role: names(given) for role, given in gated.inputs.items()} == {
        "x": ["0.ffn_norm"],
        "gate": ["blk.0.ffn_gate.weight"],
        "up": ["blk.0.ffn_up.weight"],
    }
    assert gated.attributes == {"activation": "silu"}


def test_fuse_gate_keeps_apart_what_is_not_alike() -> None:
    model = decoder(format=Format.Q8_0)
    floats = decoder().weights["blk.0.ffn_up.weight"]
    model = replace(model, weights={**model.weights, floats.name: floats})
    program = compile(model, passes=["fuse_gate"])
    assert Op.GATE in opcodes(program, 0)
    assert Op.GATED_MATMUL in opcodes(program, 1)


# -- merge_projections ------------------------------------------------------------------------


def test_merge_projections() -> None:
    program = compile(decoder(biases=True), passes=["fuse_gate", "merge_projections"])
    merged = program.instructions[2]
    assert names(merged.inputs["w"]) == [f"blk.0.attn_{part}.weight" for part in "qkv"]
    assert names(merged.inputs["bias"]) == [f"blk.0.attn_{part}.bias" for part in "qkv"]
    assert names(merged.outputs["y"]) == ["0.q+k+v"]
    assert program.buffers["0.q+k+v"].columns == 128 + 64 + 64
    ropes = [each for each in program.instructions if each.op is Op.ROPE and each.layer == 0]
    assert [names(each.inputs["x"]) for each in ropes] == [["0.q+k+v[0:128]"], ["0.q+k+v[128:192]"]]
    assert names(only(program, Op.STORE, 0).inputs["v"]) == ["0.q+k+v[192:256]"]


def test_merge_projections_merges_gate_and_up_if_they_are_not_one_already() -> None:
    program = compile(decoder(), passes=["merge_projections"])
    gate = only(program, Op.GATE, 0)
    assert names(gate.inputs["gate"]) == ["0.gate+up[0:96]"]
    assert names(gate.inputs["up"]) == ["0.gate+up[96:192]"]


def test_merge_projections_keeps_integers_and_floats_apart() -> None:
    floats = decoder().weights["blk.0.attn_v.weight"]
    model = replace(Q8, weights={**Q8.weights, floats.name: floats})
    program = compile(model, passes=["merge_projections"])
    weights = [names(i.inputs["w"]) for i in program.instructions if i.op is Op.MATMUL][:2]
    assert weights == [["blk.0.attn_q.weight", "blk.0.attn_k.weight"], ["blk.0.attn_v.weight"]]


# -- fuse_activation --------------------------------------------------------------------------


def test_fuse_activation() -> None:
    program = compile(encoder(), passes=["fuse_activation"])
    assert Op.ACTIVATE not in opcodes(program)
    up = next(i for i in program.instructions if i.attributes.get("activation") == "gelu")
    assert (up.op, names(up.inputs["w"])) == (Op.MATMUL, ["blk.0.ffn_up.weight"])


# -- fuse_residual ----------------------------------------------------------------------------


def test_fuse_residual_keeps_the_stream_in_one_buffer() -> None:
    program = compile(decoder(), passes=["fuse_residual"])
    assert Op.ADD not in opcodes(program)
    residuals = [i for i in program.instructions if "residual" in i.inputs]
    assert len(residuals) == 4
    assert all(names(i.inputs["residual"]) == names(i.outputs["y"]) == ["x"] for i in residuals)


def test_fuse_residual_does_not_overwrite_what_a_batch_may_ask_for() -> None:
    program = compile(decoder(), passes=[])
    asked = replace(program, outputs={**program.outputs, "between": Operand("0.attn_x")})
    fused = fuse_residual.apply(asked)
    between = fused.outputs["between"]
    writers = [i for i, each in enumerate(fused.instructions) if between in tuple(each.writes())]
    readers = [i for i, each in enumerate(fused.instructions) if between in tuple(each.reads())]
    assert fused.instructions[writers[-1]].layer == 0
    assert len([i for i in readers if i > writers[-1]]) == 2  # the norm and the next residual


def test_fuse_residual_leaves_gemma_alone_where_a_norm_stands_between() -> None:
    assert opcodes(compile(gemma(), passes=["fuse_residual"])).count(Op.ADD) == 4


# -- fuse_rope_store --------------------------------------------------------------------------


def test_fuse_rope_store_is_in_place_on_q() -> None:
    program = compile(decoder(), passes=["fuse_gate", "merge_projections", "fuse_rope_store"])
    fused = only(program, Op.ROPE_STORE, 0)
    assert names(fused.inputs["q"]) == names(fused.outputs["y"]) == ["0.q+k+v[0:128]"]
    assert names(only(program, Op.ATTEND, 0).inputs["q"]) == ["0.q+k+v[0:128]"]
    assert fused.attributes == {"heads": 4, "kv_heads": 2, "style": "halves"}


def test_fuse_rope_store_takes_the_norms_of_the_heads_along() -> None:
    program = compile(decoder(head_norms=True), passes=["fuse_rope_store"])
    fused = only(program, Op.ROPE_STORE, 1)
    assert names(fused.inputs["q_norm"]) == ["blk.1.attn_q_norm.weight"]
    assert names(fused.inputs["k_norm"]) == ["blk.1.attn_k_norm.weight"]
    assert fused.attributes["epsilon"] == LLAMA.norm_epsilon
    assert names(fused.inputs["q"]) == names(fused.outputs["y"]) == ["1.q"]


# -- quantize_activations, fuse_quantize ------------------------------------------------------


def test_quantize_activations_rounds_each_input_once() -> None:
    program = compile(Q8, passes=["quantize_activations"])
    layer = [i for i in program.instructions if i.layer == 0]
    rounded = [names(i.inputs["x"])[0] for i in layer if i.op is Op.QUANTIZE]
    assert rounded == ["0.attn_norm", "0.attention", "0.ffn_norm", "0.gated"]
    read = {names(i.inputs["x"])[0] for i in layer if i.op is Op.MATMUL}
    assert read == {f"{name}.i8" for name in rounded}


def test_quantize_activations_rounds_again_what_has_changed() -> None:
    program = compile(Q8, passes=["fuse_residual", "quantize_activations"])
    head = program.instructions[-1]
    assert names(head.inputs["x"]) == ["norm.i8"]
    assert elements(program)["x"] is Element.F32


def test_floating_point_weights_keep_floating_point_inputs() -> None:
    program = compile(decoder())
    assert set(elements(program).values()) == {Element.F32}


def test_fuse_quantize_lets_norms_give_only_int8_if_that_is_all_that_is_read() -> None:
    program = compile(Q8)
    norm = program.instructions[1]
    assert (norm.op, list(norm.outputs)) == (Op.RMSNORM, ["q"])
    gated = only(program, Op.GATED_MATMUL, 0)
    assert elements(program)[gated.outputs["y"][0].buffer] is Element.I8
    attend = only(program, Op.ATTEND, 0)
    assert elements(program)[attend.outputs["y"][0].buffer] is Element.I8


def test_products_over_selected_rows_take_two_terms() -> None:
    program = compile(Q8)
    head = [i for i in program.instructions if i.op is Op.MATMUL][-1]
    assert elements(program)[head.inputs["x"][0].buffer] is Element.I8X2
    assert head.outputs["y"][0].buffer == program.outputs["logits"].buffer
    first = next(i for i in program.instructions if i.op is Op.MATMUL)
    assert elements(program)[first.inputs["x"][0].buffer] is Element.I8


def test_fuse_quantize_keeps_the_f32_row_of_a_post_norm_for_the_residual() -> None:
    program = compile(encoder(format=Format.Q8_0))
    norms = [i for i in program.instructions if i.op is Op.LAYERNORM]
    assert [sorted(i.outputs) for i in norms] == [["q", "y"]] * 4 + [["y"]]
    assert Op.QUANTIZE not in opcodes(program)


def test_fuse_quantize_does_not_round_two_heads_together() -> None:
    model = decoder(replace(LLAMA, head_dim=16, rope_frequencies=(1.0,) * 8), format=Format.Q8_0)
    program = compile(model)
    attend = only(program, Op.ATTEND, 0)
    assert elements(program)[attend.outputs["y"][0].buffer] is Element.F32


# -- remove_dead ------------------------------------------------------------------------------


@pytest.mark.parametrize("names_of_passes", [["remove_dead"], None])
def test_remove_dead(names_of_passes: list[str] | None) -> None:
    program = compile(encoder(replace(BERT, head="token")), passes=names_of_passes)
    assert remove_dead.apply(program) == program
    fewer = {name: each for name, each in program.outputs.items() if name != "scores"}
    less = remove_dead.apply(replace(program, outputs=fewer))
    assert "token.output.weight" in program.buffers
    assert "token.output.weight" not in less.buffers
    assert len(less.instructions) == len(program.instructions) - 1
