from __future__ import annotations

from dataclasses import replace

import pytest

from overclock.model.model import Head, Pooling
from overclock.program.families.bert import write
from overclock.program.isa import Op
from overclock.program.program import Rows
from overclock.program.verify import verify
from tests.program.models import BERT, encoder, names, only, opcodes

EMBEDDINGS = [Op.EMBED, Op.EMBED, Op.ADD, Op.EMBED, Op.ADD, Op.LAYERNORM]
LAYER = [
    Op.MATMUL,
    Op.MATMUL,
    Op.MATMUL,
    Op.ATTEND_ALL,
    Op.MATMUL,
    Op.ADD,
    Op.LAYERNORM,
    Op.MATMUL,
    Op.ACTIVATE,
    Op.MATMUL,
    Op.ADD,
    Op.LAYERNORM,
]


def test_the_plain_program_of_bert() -> None:
    program = write(encoder())
    verify(program)
    assert opcodes(program) == [*EMBEDDINGS, *LAYER, *LAYER, Op.POOL]
    assert {name: program.columns(each) for name, each in program.outputs.items()} == {
        "hidden": 64,
        "embedding": 64,
    }
    assert not program.caches


def test_distilbert_has_no_token_types() -> None:
    program = write(encoder(token_types=False))
    assert opcodes(program)[:4] == [Op.EMBED, Op.EMBED, Op.ADD, Op.LAYERNORM]


def test_roberta_counts_positions_from_an_offset() -> None:
    program = write(encoder(replace(BERT, position_offset=2)))
    verify(program)
    offsets = {names(i.inputs["ids"])[0]: i.attributes["offset"] for i in program.instructions[:2]}
    assert offsets == {"token_ids": 0, "positions": 2}


@pytest.mark.parametrize(
    ("pooling", "method"), [("none", "mean"), ("mean", "mean"), ("cls", "first")]
)
def test_pooling(pooling: Pooling, method: str) -> None:
    model = encoder(replace(BERT, pooling=pooling, normalize=True))
    program = write(model)
    assert only(program, Op.POOL).attributes == {"method": method}
    assert program.outputs["embedding"] == only(program, Op.NORMALIZE).outputs["y"][0]


@pytest.mark.parametrize(
    ("head", "ops", "rows", "columns"),
    [
        (
            "masked_lm",
            [Op.SELECT, Op.MATMUL, Op.ACTIVATE, Op.LAYERNORM, Op.MATMUL],
            Rows.SELECTED,
            96,
        ),
        ("sequence", [Op.POOL, Op.MATMUL, Op.ACTIVATE, Op.MATMUL], Rows.SEQUENCES, 2),
        ("token", [Op.MATMUL], Rows.TOKENS, 2),
    ],
)
def test_heads(head: Head, ops: list[Op], rows: Rows, columns: int) -> None:
    program = write(encoder(replace(BERT, head=head)))
    verify(program)
    assert opcodes(program)[-len(ops) :] == ops
    scores = program.buffers[program.outputs["scores"].buffer]
    assert (scores.rows, scores.columns) == (rows, columns)


def test_a_sequence_head_has_its_own_activation() -> None:
    program = write(encoder(replace(BERT, head="sequence", head_activation="relu")))
    assert program.instructions[-2].attributes == {"activation": "relu"}


def test_the_masked_lm_head_is_tied_to_the_table() -> None:
    program = write(encoder(replace(BERT, head="masked_lm")))
    assert names(program.instructions[-1].inputs["w"]) == ["token_embd.weight"]
    assert names(program.instructions[-1].inputs["bias"]) == ["mlm.output.bias"]
