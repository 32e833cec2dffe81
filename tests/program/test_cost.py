"""Costs against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.cost import (
    Cost,
    Load,
    cost,
    generation_bytes,
    kv_token_bytes,
    span,
    total,
    uses_integers,
    visible,
)
from overclock.program.isa import Op
from overclock.program.program import Instruction, KvFormat, Program
from tests.program.models import BERT, decoder, encoder

PLAIN = compile(decoder(format=Format.Q8_0), passes=[])
FUSED = compile(decoder(format=Format.Q8_0))
ENCODER = compile(encoder(replace(BERT, head="masked_lm", normalize=True)), passes=[])
LOAD = Load(lengths=(5, 1), contexts=(0, 10), selected=2)  # T = 6, L = 2, S = 2
Q8 = 34 / 32  # bytes of a number in Q8_0


def first(program: Program, op: Op) -> Instruction:
    return next(each for each in program.instructions if each.op is op)


@pytest.mark.parametrize(
    ("program", "op", "expected"),
    [
        # 6 rows of 64 from a Q8_0 table, 6 ids
        (PLAIN, Op.EMBED, Cost(0, 6 * 68, 6 * 4 + 6 * 256)),
        (PLAIN, Op.ADD, Cost(6 * 64, 0, 3 * 6 * 256)),
        (PLAIN, Op.RMSNORM, Cost(4 * 6 * 64, 256, 2 * 6 * 256)),
        # q: 64 → 128
        (PLAIN, Op.MATMUL, Cost(2 * 6 * 64 * 128, int(64 * 128 * Q8), 6 * (256 + 512))),
        # 96 columns: silu is 4, the product 1
        (PLAIN, Op.GATE, Cost(5 * 6 * 96, 0, 3 * 6 * 384)),
        # 128 columns of q, 16 frequencies
        (PLAIN, Op.ROPE, Cost(3 * 6 * 128, 64, 2 * 6 * 512)),
        # k and v of 64 columns come as f32 and go as f16
        (PLAIN, Op.STORE, Cost(0, 0, 2 * 6 * 256, 6 * 2 * 128)),
        # pairs: 1+2+3+4+5 and 11; KV of 5 and of 11 tokens
        (
            PLAIN,
            Op.ATTEND,
            Cost(26 * (4 * 128 + 5 * 4), 0, 2 * 6 * 512, 16 * 2 * 128),
        ),
        (PLAIN, Op.SELECT, Cost(0, 0, 2 * 2 * 256)),
        # only int8 comes out: 3 more for each number, 64 + 2 · 12 bytes a row
        (FUSED, Op.RMSNORM, Cost(7 * 6 * 64, 256, 6 * (256 + 88))),
        # q, k, v at once: 64 → 256
        (FUSED, Op.MATMUL, Cost(2 * 6 * 64 * 256, int(64 * 256 * Q8), 6 * (88 + 1024))),
        # q of 128 and k of 64 are turned; q, k, v are read, q is written
        (
            FUSED,
            Op.ROPE_STORE,
            Cost(3 * 6 * 192, 64, 6 * 4 * (128 + 64 + 64 + 128), 6 * 2 * 128),
        ),
        # two products, silu, their product, rounding
        (
            FUSED,
            Op.GATED_MATMUL,
            Cost(6 * 96 * (4 * 64 + 5 + 3), int(2 * 64 * 96 * Q8), 6 * (88 + 96 + 36)),
        ),
        (ENCODER, Op.LAYERNORM, Cost(7 * 6 * 64, 512, 2 * 6 * 256)),
        (ENCODER, Op.ACTIVATE, Cost(5 * 6 * 96, 0, 2 * 6 * 384)),
        # 25 + 1 pairs, 64 columns, 2 heads
        (ENCODER, Op.ATTEND_ALL, Cost(26 * (4 * 64 + 10), 0, 4 * 6 * 256)),
        (ENCODER, Op.POOL, Cost(6 * 64, 0, (6 + 2) * 256)),
        (ENCODER, Op.NORMALIZE, Cost(3 * 2 * 64, 0, 2 * 2 * 256)),
        # q with a bias: 64 → 64
        (ENCODER, Op.MATMUL, Cost(6 * 64 * (128 + 1), 4 * 64 * 65, 2 * 6 * 256)),
    ],
)
def test_by_hand(program: Program, op: Op, expected: Cost) -> None:
    assert cost(program, first(program, op), LOAD) == expected


def test_adapters_by_hand() -> None:
    site = "blk.0.attn_v.weight"  # 64 → 64
    load = replace(LOAD, adapters=(2, 0), ranks={site: (4, 8), "blk.0.attn_q.weight": (1, 1)})
    plain = first(compile(decoder(), passes=[], adapters=[site]), Op.ADAPT)
    # 5 rows of 64 · 8 and 8 · 64 products, a sum each; a and y have all 6 rows
    spent = Cost(5 * (2 * 8 * 128 + 64), 4 * 8 * 128, 5 * 256 + 2 * 6 * 256)
    assert cost(compile(decoder(), passes=[], adapters=[site]), plain, load) == spent
    program = compile(decoder(), adapters=[site])
    in_place = first(program, Op.ADAPT)
    assert cost(program, in_place, load) == replace(spent, activation_bytes=3 * 5 * 256)
    assert cost(program, in_place, replace(load, adapters=(1, 2))).weight_bytes == 4 * 12 * 128
    for nothing in (LOAD, replace(load, adapters=(0, 0)), replace(load, ranks={site: (4, 0)})):
        assert cost(program, in_place, nothing) == Cost()


def test_adapted_selected_rows_by_hand() -> None:
    site = "blk.1.ffn_down.weight"  # 96 → 64
    program = compile(decoder(), adapters=[site])
    load = replace(LOAD, adapters=(1, 0), ranks={site: (4,)})
    # 5 of 6 tokens have the adapter, and so 2 of the 2 selected rows are taken to have it
    expected = Cost(2 * (2 * 4 * 160 + 64), 4 * 4 * 160, 2 * 4 * (96 + 64 + 64))
    assert cost(program, first(program, Op.ADAPT), load) == expected


def test_a_residual_and_a_rounding_by_hand() -> None:
    output = FUSED.instructions[5]
    assert "residual" in output.inputs
    # 128 → 64 and a sum; int8 rows of 128 + 4 · 12, f32 rows read and written
    expected = Cost(6 * 64 * (256 + 1), int(64 * 128 * Q8), 6 * (176 + 512))
    assert cost(FUSED, output, LOAD) == expected
    quantize = first(
        compile(decoder(format=Format.Q8_0), passes=["quantize_activations"]), Op.QUANTIZE
    )
    program = compile(decoder(format=Format.Q8_0), passes=["quantize_activations"])
    assert cost(program, quantize, LOAD) == Cost(3 * 6 * 64, 0, 6 * (256 + 88))


def test_int8_weights_have_a_scale_a_row() -> None:
    program = compile(encoder(), weight_format=Format.I8, passes=[])
    spent = cost(program, first(program, Op.MATMUL), LOAD)
    assert spent.weight_bytes == 64 * (64 + 4) + 4 * 64


def test_pooling_the_first_row_reads_only_that() -> None:
    program = compile(encoder(replace(BERT, pooling="cls")), passes=[])
    assert cost(program, first(program, Op.POOL), LOAD) == Cost(0, 0, 2 * 2 * 256)


@pytest.mark.parametrize(("kv", "size"), [("f32", 512), ("f16", 256), ("i8", 144)])
def test_kv_formats(kv: KvFormat, size: int) -> None:
    assert kv_token_bytes(PLAIN.caches[0], kv) == size
    assert cost(PLAIN, first(PLAIN, Op.STORE), LOAD, kv).kv_bytes == 6 * size


@given(length=st.integers(1, 40), context=st.integers(0, 40), window=st.integers(0, 50))
def test_what_a_token_sees(length: int, context: int, window: int) -> None:
    seen = [
        {p for p in range(position + 1) if not window or p > position - window}
        for position in range(context, context + length)
    ]
    assert visible(length, context, window) == sum(map(len, seen))
    assert span(length, context, window) == len(set.union(*seen))


def test_totals() -> None:
    parts = [cost(PLAIN, each, LOAD) for each in PLAIN.instructions]
    whole = total(PLAIN, LOAD)
    assert whole.operations == sum(each.operations for each in parts)
    assert whole.bytes == sum(each.bytes for each in parts)
    assert total(ENCODER, LOAD, output="hidden").operations < total(ENCODER, LOAD).operations
    with pytest.raises(InputError, match="no output 'mood'; it has hidden, embedding, scores"):
        total(ENCODER, LOAD, output="mood")


def test_the_bytes_of_a_generated_token() -> None:
    # all matrices once, a row of the table, norms and frequencies; 100 + 1 tokens in 2 layers,
    # and the token's own K and V
    layer = 64 * (128 + 64 + 64 + 128 + 96 * 3)
    weights = int((2 * layer + 96 * 64 + 64) * Q8) + 5 * 256 + 2 * 64
    assert generation_bytes(FUSED, 100) == weights + 2 * 256 * (101 + 1)


def test_passes_do_not_change_the_bytes_of_weights() -> None:
    batch = Load.prompt(9)
    fused, plain = (total(each, batch) for each in (FUSED, PLAIN))
    assert plain.weight_bytes - fused.weight_bytes == 2 * 64  # rope's frequencies are shared
    assert plain.kv_bytes == fused.kv_bytes
    assert plain.activation_bytes > fused.activation_bytes


def test_who_multiplies_integers() -> None:
    assert uses_integers(FUSED, first(FUSED, Op.MATMUL))
    assert not uses_integers(PLAIN, first(PLAIN, Op.MATMUL))
    assert not uses_integers(FUSED, first(FUSED, Op.ATTEND))


def test_loads() -> None:
    assert Load.prompt(7) == Load((7,), (0,), 1)
    assert Load.generation(9, 2) == Load((1, 1), (9, 9), 2)
