from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.passes import PASSES
from overclock.program.plan import Slot, lives, plan, row_bytes
from overclock.program.program import Buffer, Element, Kind, Program, Rows
from tests.program.models import BERT, decoder, encoder, gemma

MODELS = [
    decoder(format=Format.Q8_0),
    gemma(),
    encoder(replace(BERT, head="masked_lm", normalize=True), format=Format.Q8_0),
]
programs = st.builds(
    lambda model, passes: compile(model, passes=passes),
    st.sampled_from(MODELS),
    st.sets(st.sampled_from([each.name for each in PASSES])),
)


def needed(program: Program, buffer: str) -> set[int]:
    """The instructions while which a buffer must hold its value, found without `lives`."""
    touched = [
        index
        for index, each in enumerate(program.instructions)
        if buffer in {operand.buffer for operand in (*each.reads(), *each.writes())}
    ]
    asked = any(operand.buffer == buffer for operand in program.outputs.values())
    end = len(program.instructions) if asked else touched[-1]
    return set(range(touched[0], end + 1))


@given(program=programs)
def test_buffers_of_one_slot_never_live_at_once(program: Program) -> None:
    made = plan(program)
    activations = {n for n, b in program.buffers.items() if b.kind is Kind.ACTIVATION}
    assert set(made.slot_of) == activations == set(lives(program))
    for slot in range(len(made.slots)):
        taken: set[int] = set()
        for name in (name for name, index in made.slot_of.items() if index == slot):
            assert taken.isdisjoint(needed(program, name))
            taken |= needed(program, name)


@given(program=programs, counts=st.tuples(*[st.integers(1, 50)] * 3))
def test_every_buffer_fits_in_its_slot(program: Program, counts: tuple[int, int, int]) -> None:
    rows = dict(zip(Rows, counts, strict=True))
    made = plan(program)
    for name, slot in made.slot_of.items():
        kind = program.buffers[name].rows
        assert kind is not None
        assert rows[kind] * row_bytes(program.buffers[name]) <= made.slots[slot].bytes(rows)


def test_more_layers_need_no_more_memory() -> None:
    sizes = []
    for layers in (2, 6):
        model = decoder(replace(MODELS[0].config, layers=layers), format=Format.Q8_0)
        sizes.append(plan(compile(model)).bytes(dict.fromkeys(Rows, 7)))
    assert sizes[0] == sizes[1]


def test_a_slot_is_as_large_as_its_largest_buffer() -> None:
    slot = Slot({Rows.TOKENS: 256, Rows.SELECTED: 1024})
    assert slot.bytes({Rows.TOKENS: 8, Rows.SELECTED: 1, Rows.SEQUENCES: 1}) == 2048
    assert slot.bytes({Rows.TOKENS: 2, Rows.SELECTED: 2, Rows.SEQUENCES: 1}) == 2048


@pytest.mark.parametrize(
    ("element", "columns", "size"),
    [
        (Element.F32, 1, 64),
        (Element.F32, 16, 64),
        (Element.F32, 17, 128),
        (Element.I8, 576, 576 + 18 * 12 + 40),  # 792 → 832
        (Element.I8, 33, 128),  # 64 + 2 · 12 → 128
        (Element.I8, 64, 128),
        (Element.I8, 1, 128),  # 64 + 12 → 128
        (Element.I8X2, 576, 2 * 832),  # the row of what the first leaves follows it
    ],
)
def test_row_bytes(element: Element, columns: int, size: int) -> None:
    assert row_bytes(Buffer("x", Kind.ACTIVATION, columns, Rows.TOKENS, element)) == size
