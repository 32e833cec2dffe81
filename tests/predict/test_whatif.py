"""What a change would bring: every case compiles, is sorted, and holds what its words say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.machine import limits
from overclock.model.formats import Format
from overclock.predict import book as books
from overclock.predict import calibrate, whatif
from overclock.predict.changes import changes
from overclock.predict.kernels import works
from overclock.predict.measure import Kind, kinds_of, output_of
from overclock.predict.sheet import Sheet
from overclock.predict.stages import Stages
from overclock.predict.whatif import Case, Oracle, memory_bytes, tokens_a_tick
from overclock.program.compiler import compile
from overclock.program.program import KvFormat, Program
from tests.machine import rig as machines
from tests.predict import rig


def base(name: str = "llama", **parts: object) -> Case:
    model = machines.model(name)
    case = Case("as it is", "base", model, "f16", 1, 2, 40, 60)
    return replace(case, **parts)  # type: ignore[arg-type]


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """An oracle that needs no measurement."""
    monkeypatch.setattr(limits, "usable_cores", lambda: 2)
    monkeypatch.setattr(limits, "load_or_measure", lambda threads: rig.limits())

    def made(
        wanted: list[tuple[object, Program]], kv: KvFormat, threads: int, again: bool = False
    ) -> books.Book:
        return rig.book([w for _, each in wanted for w in works(each, kv)], threads)

    monkeypatch.setattr(whatif, "calibrate", made)
    return Oracle(Stages(1e-6, 1e-7))


@pytest.mark.parametrize("name", machines.DECODERS + machines.ENCODERS)
def test_every_usual_case_can_be_predicted(name: str, oracle: Oracle) -> None:
    start = base(name)
    cases = changes(start)
    assert {each.group for each in cases} >= {"threads", "streams", "layers"}
    found = oracle.outcomes(start, cases)
    gains = [each.gain for each in found]
    assert gains == sorted(gains, reverse=True)
    assert {each.case.what for each in found} == {each.what for each in cases}
    before = oracle.figures(start)
    for each in found:
        figures = each.figures
        assert 0 < figures.low <= figures.speed <= figures.high
        assert each.low <= each.gain <= each.high
        assert each.gain == pytest.approx(figures.speed / before.speed)
        assert figures.memory > 0
        assert figures.limit > 0
        assert each.case.context < start.model.config.context


def test_memory_by_hand() -> None:
    case = base(streams=3, context=40)
    program = compile(case.model)
    # 288 · 32 of the embedding; a layer: 3 matrices of 32 · 64 (q 64, k and v 32, output), 3 of
    # 64 · 32; norms of 32, two a layer and one at the end. All F32. Frequencies are constants.
    layer = 64 * 32 + 2 * 32 * 32 + 32 * 64 + 3 * 64 * 32 + 2 * 32
    weights = 4 * (288 * 32 + 2 * layer + 32)
    # 41 tokens are 2 pages of 32; K and V of 2 heads · 16 in f16, 2 layers
    kv = 3 * 2 * 32 * 2 * (2 * 32 * 2)
    assert memory_bytes(case, program) == weights + kv
    smaller = replace(case, kv="i8")
    assert memory_bytes(smaller, program) == weights + 3 * 2 * 32 * 2 * 2 * (32 + 2 * 4)


@given(st.floats(0, 1), st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_expected_tokens_are_those_of_a_simulation(chance: float, drafts: int, seed: int) -> None:
    case = base(acceptance=chance, drafts=drafts)
    right = np.random.default_rng(seed).random((20_000, drafts)) < chance
    tokens = 1 + np.cumprod(right, axis=1).sum(axis=1) if drafts else np.ones(1)
    assert tokens_a_tick(case) == pytest.approx(float(tokens.mean()), abs=0.15)


def test_a_computer_with_twice_the_memory_bandwidth_is_at_most_twice_as_fast(
    oracle: Oracle,
) -> None:
    start = base("all-types")
    cases = [
        replace(start, what=f"{times}", computer=Sheet("b", 1, times * 20.0, 100.0, 400.0))
        for times in (1, 2, 4)
    ]
    # Its limit is held against caches that are as much faster than memory as these.
    assert oracle.figures(cases[0]).limit == pytest.approx(oracle.figures(start).limit)
    same, double, four = (oracle.figures(case).speed for case in cases)
    assert same == pytest.approx(oracle.figures(start).speed)
    assert same < double <= 2 * same
    assert double < four <= 2 * double


@pytest.mark.parametrize(
    ("name", "part", "value", "said"),
    [
        ("llama", "context", 128, "129 tokens are more than the 128"),
        ("llama", "context", 10**9, "room for"),
        ("llama", "weights", "Q9_9", "Q9_9 is no weight format"),
        ("llama", "weights", "int8", "only encoders"),
        ("llama", "weights", "I8", "stands in no file"),
        ("llama", "weights", "Q4_K", "blocks of 256"),
        ("llama", "kv", "f8", "kv cannot become 'f8'"),
        ("llama", "threads", 3, "2 cores"),
        ("llama", "layers", 2, "cannot be left out"),
        ("llama", "ffn", 0.999, "another share"),
        ("bert-mean", "kv", "f32", "is an encoder"),
        ("bert-mean", "speculation", (0.5, 4), "is an encoder"),
        ("bert-mean", "context", 65, "65 tokens are more than the 64"),
    ],
)
def test_what_cannot_be_changed_is_said(
    oracle: Oracle, name: str, part: str, value: object, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        changes(base(name), {part: [value]})


def test_what_changes_nothing_is_left_out(oracle: Oracle) -> None:
    same: dict[str, list[object]] = {
        "kv": ["f16"],
        "threads": [1],
        "streams": [2],
        "weights": ["F32"],
        "context": [40],
    }
    assert changes(base(), same) == []
    assert len(changes(base(), {"weights": ["F16", "F32"]})) == 1


def test_a_named_format_is_not_made_int8_on_load(oracle: Oracle) -> None:
    start = base("bert-mean", int8=True)
    (case,) = changes(start, {"weights": ["F16"]})
    assert not case.int8
    assert changes(start, {"weights": ["int8"]}) == []


def test_texts_are_parted_into_ticks() -> None:
    case = base("bert-mean", streams=10, context=300)
    assert whatif.text_ticks(case) == [3, 3, 3, 1]
    assert whatif.text_ticks(replace(case, context=5000)) == [1] * 10


def test_more_streams_and_shorter_contexts_are_never_slower_in_all(oracle: Oracle) -> None:
    speeds = [oracle.figures(base(streams=count)).speed for count in (1, 2, 4, 8, 64)]
    assert speeds == sorted(speeds)
    speeds = [oracle.figures(base(context=context)).speed for context in (120, 60, 30, 1)]
    assert speeds == sorted(speeds)


# -- with real kernels, as few as can be ---------------------------------------------------------


def test_a_calibration_has_every_kernel_and_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("overclock._native")
    rig.tiny(monkeypatch, tmp_path)
    measured: list[str] = []
    measure = calibrate.measure

    def noted(kind: Kind, *rest: object, **named: object) -> books.Book:
        measured.append(kind.name)
        return measure(kind, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(calibrate, "measure", noted)
    for name, int8, wanted in (
        ("llama", False, "llama F32 F32"),
        ("gemma3", False, "llama BF16 BF16"),  # adds, which no probe does
        ("bert-mean", True, "bert F32 F32 int8"),
    ):
        model = machines.model(name)
        program = compile(model, weight_format=Format.I8 if int8 else None)
        kinds = [(kind, program) for kind in kinds_of(model, int8=int8)]
        book = calibrate.calibrate(kinds, "f16", 1)
        assert measured == [wanted]
        known = works(program, "f16")
        assert all(book.fit(known[i]) for i in program.needed_for(output_of(program)))
        assert [key for key in book.errors if key.startswith(wanted)]
        again = calibrate.calibrate(kinds, "f16", 1)
        assert measured == [wanted]  # not once more
        assert again == book
        calibrate.calibrate(kinds, "f16", 1, again=True)
        assert measured == [wanted] * 2
        measured.clear()


def test_measuring_again_is_done_once_and_not_for_every_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "usable_cores", lambda: 2)
    monkeypatch.setattr(limits, "load_or_measure", lambda threads: rig.limits())
    asked: list[tuple[str, int]] = []

    def made(
        wanted: list[tuple[Kind, Program]],
        kv: KvFormat,
        threads: int,
        again: bool = False,
    ) -> books.Book:
        asked.extend((kind.name, threads) for kind, _ in wanted if again)
        return rig.book([w for _, each in wanted for w in works(each, kv)], threads)

    monkeypatch.setattr(whatif, "calibrate", made)
    start = base()
    parts: dict[str, list[object]] = {
        "layers": [1],
        "ffn": [0.5],
        "threads": [2],
        "weights": ["F16"],
    }
    Oracle(again=True).outcomes(start, changes(start, parts))
    assert sorted(asked) == [("llama F16 F16", 1), ("llama F32 F32", 1), ("llama F32 F32", 2)]
