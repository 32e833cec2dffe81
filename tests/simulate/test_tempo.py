"""The tempo of a data sheet against the virtual machine, which costs every instruction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.machine.machine import Batch
from overclock.machine.virtual import Roofline, VirtualMachine
from overclock.model.load import load
from overclock.predict.kernels import Lengths
from overclock.predict.predictor import Predictor
from overclock.predict.stages import Stages
from overclock.program.compiler import compile
from overclock.program.program import PAGE_TOKENS, KvFormat
from overclock.simulate import tempo as tempos
from overclock.simulate.tempo import CalibratedTempo, RooflineTempo, ideal_tempo
from tests.checkpoints import FIXTURES
from tests.predict import rig as predicted
from tests.simulate.rig import Asked, Linear

# Slow operations, slow memory, and both in balance; int8 products have their own limit.
LIMITS = [Roofline(1e12, 1e6, 3e6), Roofline(1e6, 1e12), Roofline(2e7, 1e8, 5e8)]


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "qwen3"])
@pytest.mark.parametrize("kv", ["f16", "i8"])
def test_runs_take_what_the_virtual_machine_says(name: str, kv: KvFormat) -> None:
    program = compile(load(FIXTURES / name))
    rng = np.random.default_rng(5)
    for limits in LIMITS:
        machine = VirtualMachine(limits, kv)
        machine.load(program, {}, pages=256)
        tempo = RooflineTempo(program, limits, kv)
        for sequences in (1, 1, 2, 7):
            for longest in (1, 9):
                lengths = rng.integers(1, longest + 1, sequences).astype(np.int32)
                contexts = rng.integers(0, program.context - longest, sequences).astype(np.int32)
                selected = int(rng.integers(1, lengths.sum() + 1))
                machine.run(_batch(lengths, contexts, selected))
                predicted = tempo.run(lengths, contexts, selected)
                assert predicted == pytest.approx(machine.last_seconds, rel=1e-9)


def _batch(lengths: NDArray[np.int32], contexts: NDArray[np.int32], selected: int) -> Batch:
    tokens = int(lengths.sum())
    most = -(-int((lengths + contexts).max()) // PAGE_TOKENS)
    pages = np.arange(len(lengths) * most, dtype=np.int32).reshape(len(lengths), most)
    return Batch(
        token_ids=np.zeros(tokens, np.int32),
        starts=np.concatenate(([0], np.cumsum(lengths))).astype(np.int32),
        contexts=contexts,
        pages=pages,
        output_rows=np.arange(selected, dtype=np.int32),
        output="logits",
    )


SHEET = {
    "read_bandwidth_gbs": {"1": 10.0, "4": 40.0},
    "f32_gflops": {"1": 50.0, "4": 200.0},
    "int8_gops": {"1": 200.0, "4": 800.0},
    "cpu": "a processor",
}


def test_another_computer_by_its_sheet(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.json"
    sheet.write_text(json.dumps(SHEET))
    program = compile(load(FIXTURES / "llama"))
    one, four = (ideal_tempo(program, "f16", threads, sheet) for threads in (1, 4))
    batch = np.array([5], np.int32), np.array([3], np.int32), 1
    assert one.run(*batch) == pytest.approx(4 * four.run(*batch))


LINEAR = Linear(run_s=0.004, row_s=0.0003, past_s=1e-6)


def ints(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def asked() -> tuple[CalibratedTempo, Asked]:
    predictor = Asked(LINEAR)
    return CalibratedTempo(predictor, Stages(1e-3, 1e-4, 2e-3, (0.9, 1.0, 1.2))), predictor


def test_batches_of_as_many_pages_take_the_same_time() -> None:
    tempo, predictor = asked()
    first = tempo.run(ints(1, 1), ints(40, 200), 2)
    assert first == pytest.approx(LINEAR.run(ints(1, 1), ints(40, 200), 2))
    # 41 tokens are on their second page, 201 on their seventh; so are 60 and 220.
    for contexts in ((40, 200), (40, 220), (62, 191), (200, 40)):
        assert tempo.run(ints(1, 1), ints(*contexts), 2) == first
    assert len(predictor.loads) == 1


@pytest.mark.parametrize(
    ("lengths", "contexts", "selected"),
    [
        ((1, 1), (40, 200), 1),  # another number of rows that are wanted
        ((1, 1), (63, 200), 2),  # one page more
        ((1, 1), (8, 223), 2),  # as many pages, but a longer request
        ((1, 1, 1), (40, 200, 0), 3),  # one request more
        ((1, 2), (40, 199), 2),  # a row more
        ((2, 1), (40, 200), 2),
        ((1, 9), (40, 190), 2),
    ],
)
def test_other_rows_or_pages_are_asked_for_again(
    lengths: tuple[int, ...], contexts: tuple[int, ...], selected: int
) -> None:
    tempo, predictor = asked()
    tempo.run(ints(1, 1), ints(40, 200), 2)
    for _ in range(2):
        found = tempo.run(ints(*lengths), ints(*contexts), selected)
        assert found == pytest.approx(LINEAR.run(ints(*lengths), ints(*contexts), selected))
    assert len(predictor.loads) == 2


BATCHES = st.lists(
    st.tuples(st.sampled_from([1, 1, 1, 2, 70]), st.integers(0, 400)), min_size=1, max_size=4
)


@given(st.lists(BATCHES, min_size=1, max_size=12))
def test_what_is_kept_is_as_exact_as_pages_are(batches: list[list[tuple[int, int]]]) -> None:
    tempo, _ = asked()
    for batch in batches:
        lengths, contexts = (ints(*each) for each in zip(*batch, strict=True))
        found = tempo.run(lengths, contexts, len(batch))
        exact = LINEAR.run(lengths, contexts, len(batch))
        # Each request has less than a page more or less than another one of as many pages.
        assert abs(found - exact) < LINEAR.past_s * PAGE_TOKENS * len(batch)


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempos, "MOST_KEPT", 3)
    tempo, predictor = asked()
    for context in (0, 100, 200, 300, 400):
        tempo.run(ints(1), ints(context), 1)
    for context in (0, 100, 200):
        tempo.run(ints(1), ints(context), 1)
    assert len(predictor.loads) == 5
    tempo.run(ints(1), ints(400), 1)
    assert len(predictor.loads) == 6


def test_stages_are_those_that_were_measured() -> None:
    tempo, _ = asked()
    assert tempo.stages(4, 9, 4) == pytest.approx(1e-3 + 4 * 1e-4)
    assert tempo.admission(500) == 2e-3
    assert tempo.ratios == (0.9, 1.0, 1.2)
    program = compile(load(FIXTURES / "llama"))
    ideal = RooflineTempo(program, LIMITS[0])
    assert (ideal.stages(4, 9, 4), ideal.admission(500), ideal.ratios) == (0.0, 0.0, (1.0,))


def test_a_calibrated_tempo_says_what_its_predictor_does() -> None:
    program = compile(load(FIXTURES / "llama"))
    predictor = Predictor(program, "f16", predicted.book_of(program), predicted.limits())
    tempo = CalibratedTempo(predictor, Stages())
    lengths, contexts = ints(5, 1), ints(0, 90)
    wanted = predictor.seconds(Lengths.of(lengths, contexts, 2))
    assert tempo.run(lengths, contexts, 2) == wanted
