from __future__ import annotations

import json
from dataclasses import replace

import pytest

from overclock.errors import InputError
from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.cost import Load, total
from overclock.program.listing import Listing, amount
from tests.program.models import BERT, decoder, encoder

PROGRAM = compile(decoder(format=Format.Q8_0))
LOAD = Load((5,), (3,), 1)


def test_text_has_every_instruction_in_order() -> None:
    lines = Listing(PROGRAM, LOAD).text().splitlines()
    assert lines[0] == "decoder: 23 instructions, default mode, outputs logits f32[L, 96]"
    table = lines[lines.index("") + 2 :][: len(PROGRAM.instructions)]
    listed = [line.split()[:2] for line in table]
    assert listed == [[str(i), each.op.value] for i, each in enumerate(PROGRAM.instructions)]


def test_text_shows_shapes_formats_and_costs() -> None:
    text = Listing(PROGRAM, LOAD).text()
    assert (
        " 1  rmsnorm           2.24 k  1.98 k  0.attn_norm.i8 i8[T, 64] ← x f32[T, 64], "
        "w=blk.0.attn_norm.weight F32[64], epsilon=1e-05"
    ) in text
    assert "w=blk.0.attn_q.weight Q8_0[128, 64] | blk.0.attn_k.weight Q8_0[64, 64] | " in text


def test_totals_are_the_sums_of_the_instructions() -> None:
    listing = Listing(PROGRAM, LOAD)
    assert listing.total() == total(PROGRAM, LOAD)
    counts = {op: count for op, (count, _) in listing.by_opcode().items()}
    assert sum(counts.values()) == len(PROGRAM.instructions)
    assert counts["gated_matmul"] == 2
    assert "total: " in listing.text()


def test_json_has_the_same_numbers() -> None:
    listing = Listing(PROGRAM, LOAD, kv="i8")
    value = json.loads(json.dumps(listing.json()))
    assert [each["opcode"] for each in value["instructions"]] == [
        each.op.value for each in PROGRAM.instructions
    ]
    assert value["instructions"][1] == {
        "index": 1,
        "opcode": "rmsnorm",
        "layer": 0,
        "inputs": {
            "x": [{"operand": "x", "shape": "f32[T, 64]"}],
            "w": [{"operand": "blk.0.attn_norm.weight", "shape": "F32[64]"}],
        },
        "outputs": {"q": [{"operand": "0.attn_norm.i8", "shape": "i8[T, 64]"}]},
        "attributes": {"epsilon": 1e-05, "heads": 1},
        "operations": 2240,
        "bytes": 1976,
        "weight_bytes": 256,
        "activation_bytes": 1720,
        "kv_bytes": 0,
    }
    assert value["total"]["bytes"] == sum(each["bytes"] for each in value["instructions"])
    assert value["batch"] == {"lengths": [5], "contexts": [3], "selected": 1}
    assert value["kv"] == "i8"


def test_one_output_lists_what_it_needs() -> None:
    program = compile(encoder(replace(BERT, head="masked_lm")))
    listing = Listing(program, LOAD, output="embedding")
    assert [index for index, _, _ in listing.lines] == list(program.needed_for("embedding"))
    with pytest.raises(InputError, match="no output 'mood'"):
        Listing(program, LOAD, output="mood")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (12345, "12.3 k"),
        (999_400, "999 k"),
        (1_234_567, "1.23 M"),
        (5 * 10**15, "5.00 P"),
        (5 * 10**19, "50000 P"),
    ],
)
def test_amounts(number: int, text: str) -> None:
    assert amount(number) == text
