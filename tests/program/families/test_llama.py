from __future__ import annotations

from dataclasses import replace

import pytest

from overclock.errors import ModelError
from overclock.model.formats import Format
from overclock.program.families.llama import write
from overclock.program.isa import Op
from overclock.program.program import Kind, Rows
from overclock.program.verify import verify
from tests.program.models import LLAMA, decoder, gemma, names, only, opcodes

LAYER = [
    Op.RMSNORM,
    Op.MATMUL,
    Op.MATMUL,
    Op.MATMUL,
    Op.ROPE,
    Op.ROPE,
    Op.STORE,
    Op.ATTEND,
    Op.MATMUL,
    Op.ADD,
    Op.RMSNORM,
    Op.MATMUL,
    Op.MATMUL,
    Op.GATE,
    Op.MATMUL,
    Op.ADD,
]


def test_the_plain_program_of_llama() -> None:
    program = write(decoder())
    verify(program)
    assert opcodes(program) == [Op.EMBED, *LAYER, *LAYER, Op.SELECT, Op.RMSNORM, Op.MATMUL]
    assert [each.layer for each in program.instructions] == (
        [None] + [0] * len(LAYER) + [1] * len(LAYER) + [None] * 3
    )
    logits = program.buffers[program.outputs["logits"].buffer]
    assert (logits.rows, logits.columns) == (Rows.SELECTED, 96)


def test_what_an_attention_is_told() -> None:
    program = write(decoder())
    attend = only(program, Op.ATTEND, 1)
    assert attend.attributes == {"heads": 4, "kv_heads": 2, "scale": 32**-0.5, "window": 0}
    assert [(b.name, b.shape, b.columns) for b in program.caches] == [
        ("cache.0", (2, 32), 64),
        ("cache.1", (2, 32), 64),
    ]
    assert program.constants == {"rope": LLAMA.rope_frequencies}


def test_a_scale_that_is_not_given_is_that_of_the_head() -> None:
    attend = only(write(decoder(replace(LLAMA, attention_scale=0.0))), Op.ATTEND, 0)
    assert attend.attributes["scale"] == 32**-0.5


def test_tied_and_untied_output() -> None:
    tied, untied = write(decoder()), write(decoder(untied=True))
    assert names(tied.instructions[-1].inputs["w"]) == ["token_embd.weight"]
    assert names(untied.instructions[-1].inputs["w"]) == ["output.weight"]


def test_qwen2_has_biases() -> None:
    program = write(decoder(biases=True))
    assert sum("bias" in each.inputs for each in program.instructions) == 3 * LLAMA.layers


def test_qwen3_normalises_heads() -> None:
    program = write(decoder(head_norms=True))
    norms = [each for each in program.instructions if each.attribute("heads") in (2, 4)]
    heads = [(each.op, each.attributes["heads"]) for each in norms if each.op is Op.RMSNORM]
    assert heads == [(Op.RMSNORM, 4), (Op.RMSNORM, 2)] * 2


def test_gemma3() -> None:
    program = write(gemma())
    verify(program)
    assert opcodes(program, 0).count(Op.RMSNORM) == 6
    assert program.instructions[0].attributes["scale"] == 8.0
    assert [only(program, Op.ATTEND, layer).attributes["window"] for layer in (0, 1)] == [8, 0]
    ropes = [each for each in program.instructions if each.op is Op.ROPE]
    used = [names(each.inputs["frequencies"])[0] for each in ropes]
    assert used == ["rope.local", "rope.local", "rope", "rope"]
    assert only(program, Op.GATE, 0).attributes["activation"] == "gelu_tanh"


def test_weights_can_be_quantised_on_load_but_not_the_table() -> None:
    program = write(decoder(), Format.I8)
    formats = {
        name: buffer.format
        for name, buffer in program.buffers.items()
        if buffer.kind is Kind.WEIGHT and len(buffer.shape) == 2
    }
    assert formats.pop("token_embd.weight") is Format.F32
    assert set(formats.values()) == {Format.I8}


def test_weights_in_integers_keep_their_format() -> None:
    program = write(decoder(format=Format.Q8_0), Format.I8)
    assert program.buffers["blk.0.attn_q.weight"].format is Format.Q8_0


def test_a_missing_tensor_is_named() -> None:
    model = decoder()
    weights = {name: t for name, t in model.weights.items() if name != "blk.1.ffn_up.weight"}
    with pytest.raises(ModelError, match=r"no tensor blk\.1\.ffn_up\.weight"):
        write(replace(model, weights=weights))


def test_a_tensor_of_another_shape_is_named() -> None:
    model = decoder()
    with pytest.raises(ModelError, match=r"blk\.0\.attn_q\.weight .*\[128, 64\].*\[96, 64\]"):
        write(replace(model, config=replace(model.config, heads=3)))
