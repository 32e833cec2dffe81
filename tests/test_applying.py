"""Trying a change: the load is the one that was asked about. How fast it is nobody's business."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median, median_high, median_low
from typing import cast

import numpy as np
import pytest

from overclock import LLM, Encoder, applying
from overclock.applying import GENERATED, base_case, measure, opened, stages_of, try_case
from overclock.clock.settings import ClockSettings
from overclock.errors import InputError
from overclock.machine.machine import Counters
from overclock.predict import variants
from overclock.predict.sheet import Sheet
from overclock.predict.whatif import Case, memory_bytes
from overclock.program.compiler import compile
from overclock.trace.record import TickDetail, TickRecord
from overclock.trace.recorder import Recorder
from overclock.tracing import observing
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


def test_all_streams_are_there_before_the_first_tick() -> None:
    with LLM(rig.model("llama"), 1) as llm:
        recorder = Recorder()
        with observing(llm.clock, llm.driver, recorder):
            applying._generate(llm, 5, 8)
    assert recorder.ticks[0].running + recorder.ticks[0].waiting == 5


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
        assert found.admission >= 0
        assert len(found.ratios) > GENERATED
        assert min(found.ratios) > 0
        # Each round has the median 1, so no more than half of all are on either side of it.
        low, high = (each(found.ratios) for each in (median_low, median_high))
        assert low <= 1.0 <= high
        assert llm.clock.roster.requests is None
        made = base_case(llm, 1, 2, 40, 60, int8=False)
        assert (made.kv, made.prompt, made.exact) == ("f16", 60, False)
    with Encoder(rig.model("bert-mean"), 1) as encoder:
        assert stages_of(encoder).sequence >= 0
        assert stages_of(encoder).ratios == (1.0,)
        assert base_case(encoder, 1, 2, 40, 60, int8=False).prompt == 0


RUN, TICK, SEQUENCE, ADMISSION = 10e-3, 2e-3, 0.5e-3, 3e-3
GAPS = (9.0, 9.0, 1.0, 2.0, 1.0, 1.0, 0.5)
"""Times from tick to tick by the settled ones' median; the first two do not count."""


def planted(started: float, rows: int, beside: float, prompt: int = 0) -> TickRecord:
    counters = Counters(np.zeros(1), 1, whole=RUN)
    starts = np.arange(rows + 1, dtype=np.int32)
    detail = TickDetail(starts, starts[:-1], None, rows, "logits", counters, 0.0, 0.0, 0)
    stages = (beside / 2, 0.0, RUN, beside / 2)
    return TickRecord(started, *stages, rows, prompt, 0, rows, rows, 0, 0, detail=detail)


def planted_ticks(streams: int) -> list[TickRecord]:
    """A prompt, all streams together, and one that goes on alone."""
    beside = TICK + streams * SEQUENCE
    ticks, at = [planted(0.0, 32, beside, prompt=32)], 50e-3
    for gap in (*GAPS, 1.0):
        ticks.append(planted(at, streams, beside))
        at += gap * (RUN + beside)
    return [*ticks, planted(at, streams + 1, beside)]


def test_stages_and_ratios_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()

    @contextmanager
    def watching(*_: object) -> Iterator[Recorder]:
        recorder.start()
        recorder.began = 0.0
        yield recorder

    def generate(_: object, streams: int, context: int) -> None:
        recorder.ticks += planted_ticks(streams)

    class Alone:
        settings = ClockSettings(streams=20)
        clock = driver = None

        def generate(self, *_: object, reuse_prefix: bool) -> None:
            assert not reuse_prefix
            recorder.ticks.append(planted(0.0, 1, ADMISSION))

    monkeypatch.setattr(applying, "watching", watching)
    monkeypatch.setattr(applying, "_generate", generate)
    found = stages_of(cast(LLM, Alone()))
    assert found.tick == pytest.approx(TICK)
    assert found.sequence == pytest.approx(SEQUENCE)
    assert found.admission == pytest.approx(ADMISSION)
    rounds = 2 * applying.STAGES_ROUNDS
    assert sorted(found.ratios) == pytest.approx(sorted(GAPS[2:] * rounds))
    assert median(found.ratios) == 1.0
