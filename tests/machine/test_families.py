"""The reference machine gives what transformers gives, for every family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overclock.machine.machine import KvFormat
from tests.machine import rig

SHARE = 1e-4
"""Of the logits' spread: what the order of f32 sums may change."""


@pytest.mark.parametrize("mode", [rig.PLAIN, rig.EXACT], ids=str)
@pytest.mark.parametrize("name", rig.DECODERS)
def test_decoders_give_the_logits_of_transformers(name: str, mode: rig.Mode) -> None:
    wanted = rig.expected(name)
    sequences = [wanted[f"ids_{i}"].astype(np.int32) for i in range(2)]
    for index, logits in enumerate(rig.feed(rig.reference(name, mode, "f32"), sequences)):
        rig.assert_near(logits, wanted[f"logits_{index}"], SHARE)


@pytest.mark.parametrize("mode", [rig.PLAIN, rig.EXACT], ids=str)
@pytest.mark.parametrize("name", rig.ENCODERS)
def test_encoders_give_what_transformers_gives(name: str, mode: rig.Mode) -> None:
    wanted = rig.expected(name)
    machine = rig.reference(name, mode)
    sequences, types = (
        [wanted[f"{key}_{i}"].astype(np.int32) for i in range(2)] for key in ("ids", "types")
    )
    assert ("scores" in rig.program(name, mode).outputs) == ("scores_0" in wanted)
    for output in rig.program(name, mode).outputs:
        values = machine.run(rig.encoder_batch(sequences, output, types))
        both = [np.atleast_2d(wanted[f"{output}_{i}"]) for i in range(2)]
        rig.assert_near(values, np.concatenate(both), SHARE)


@pytest.mark.parametrize("name", ["gemma3", "all-types"])
@settings(max_examples=8, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_pieces_company_and_page_order_change_nothing(name: str, data: st.DataObject) -> None:
    sequences = rig.random_ids(name, (70, 3, 33))
    ticks = data.draw(rig.schedules([len(ids) for ids in sequences]))
    order = data.draw(rig.page_orders)
    machine = rig.reference(name, rig.EXACT, "f32")
    for ids, logits in zip(sequences, rig.feed(machine, sequences, ticks, order), strict=True):
        rig.assert_near(logits, rig.feed(machine, [ids])[0], 5 * SHARE)


@pytest.mark.parametrize(("kv", "share"), [("f16", 0.002), ("i8", 0.05)])
@pytest.mark.parametrize("name", ["llama", "gemma3", "all-types"])
def test_kv_formats_are_close_but_not_the_same(name: str, kv: KvFormat, share: float) -> None:
    ids = rig.random_ids(name, (40,))
    exact = rig.feed(rig.reference(name, rig.EXACT, "f32"), ids)[0]
    rounded = rig.feed(rig.reference(name, rig.EXACT, kv), ids)[0]
    assert 0 < rig.spread(rounded - exact) < share * rig.spread(exact)


@pytest.mark.parametrize("name", ["qwen2", "all-types"])
def test_int8_is_close_but_not_the_same(name: str) -> None:
    ids = rig.random_ids(name, (40,))
    exact = rig.feed(rig.reference(name, rig.EXACT_INT8), ids)[0]
    rounded = rig.feed(rig.reference(name, rig.INT8), ids)[0]
    assert 0 < rig.spread(rounded - exact) < 0.1 * rig.spread(exact)


def test_output_rows_select() -> None:
    (ids,) = rig.random_ids("qwen3", (9,))
    machine = rig.reference("qwen3", rig.EXACT, "f32")
    whole = rig.decoder_batch([ids], [0], rig.page_table([9]), [(0, 9)])
    rows = np.array([8, 2], np.int32)
    few = replace(whole, output_rows=rows)
    np.testing.assert_allclose(machine.run(few), machine.run(whole)[rows], atol=1e-4)
    assert machine.run(replace(whole, output_rows=rows[:0])).shape == (0, 293)
