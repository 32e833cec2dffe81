"""Trying a change: the load is the one that was asked about. How fast it is nobody's business."""

from __future__ import annotations

from dataclasses import replace

import pytest

from overclock import LLM, Encoder
from overclock.applying import GENERATED, base_case, measure, opened, stages_of, try_case
from overclock.clock.settings import ClockSettings
from overclock.errors import InputError
from overclock.predict import variants
from overclock.predict.sheet import Sheet
from overclock.predict.whatif import Case, memory_bytes
from overclock.program.compiler import compile
from tests.machine import rig

pytest.importorskip("overclock._native")


def case(name: str = "llama", **parts: object) -> Case:
    made = Case("as it is", "base", rig.model(name), "f16", 1, 2, 40, 0)
    return replace(made, **parts)  # type: ignore[arg-type]


def test_a_change_is_measured_beside_the_base() -> None:
    base = case()
    narrow = replace(base, what="narrow", model=variants.with_narrow_ffn(base.model, 0.5))
    found = try_case(base, narrow, rounds=2)
    assert 0 < found.low <= found.speed <= found.high
    assert found.gain > 0
    # Packed panels and pages are padded, so they are larger than what the sizes say.
    assert found.memory >= memory_bytes(narrow, compile(narrow.model)) * 0.9


def test_texts_are_measured_too() -> None:
    found = try_case(case("bert-mean"), case("bert-mean", int8=True, streams=5), rounds=1)
    assert found.speed > 0


@pytest.mark.parametrize("context", [1, 40, 127])
def test_streams_have_room_whatever_their_context(context: int) -> None:
    asked = case(context=context)
    with opened(asked) as llm:
        assert isinstance(llm, LLM)
        assert llm.context <= asked.model.config.context
        assert llm.context >= min(context, asked.model.config.context - GENERATED)
        assert measure(llm, asked) > 0


def test_what_cannot_be_tried_here_is_refused() -> None:
    base = case()
    guessing = replace(base, what="guessing", drafts=4, acceptance=0.5)
    elsewhere = replace(base, what="elsewhere", computer=Sheet("a", 1, 1.0, 1.0, 1.0))
    for each in (guessing, elsewhere):
        assert not each.can_run
        with pytest.raises(InputError, match=f"{each.what}: this cannot be tried here"):
            try_case(base, each)


def test_stages_take_no_less_than_nothing() -> None:
    with LLM(rig.model("llama"), 1, settings=ClockSettings(streams=3)) as llm:
        found = stages_of(llm)
        assert found.tick >= 0
        assert found.sequence >= 0
        assert found.seconds(5) == pytest.approx(found.tick + 5 * found.sequence)
        assert llm.clock.roster.requests is None
        made = base_case(llm, 1, 2, 40, 60, int8=False)
        assert (made.kv, made.prompt, made.exact) == ("f16", 60, False)
    with Encoder(rig.model("bert-mean"), 1) as encoder:
        assert stages_of(encoder).sequence >= 0
        assert base_case(encoder, 1, 2, 40, 60, int8=False).prompt == 0
