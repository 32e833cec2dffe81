"""Two traces: what was planted is found, and nothing else."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock.errors import InputError
from overclock.trace.compare import Change, compare
from tests.trace.noisy_documents import Document, Noise, document, gaussian, instruction, ticks


def told(changes: tuple[Change, ...]) -> dict[tuple[str, int | None], str]:
    return {
        (each.name, each.layer): each.verdict
        for each in changes
        if each.verdict in ("faster", "slower")
    }


def test_a_planted_change_is_found_and_nothing_else() -> None:
    a = document(ticks(gaussian(1)))
    b = document(ticks(gaussian(2), {6: 1.1, 9: 0.8}))
    [part] = compare(a, b).parts
    assert (part.kind, part.rows, part.ticks) == ("generation", (1, 1), (64, 64))
    assert told(part.instructions) == {
        ("matmul 1", 1): "slower",
        ("gated_matmul 4", 1): "faster",
    }
    first, second = part.instructions[:2]
    assert first.name == "gated_matmul 4", "the largest change comes first"
    assert first.gained == pytest.approx(18e-6, rel=0.1)
    assert second.difference is not None
    assert second.difference.low < 1.1 < second.difference.high
    assert told(part.opcodes) == {("matmul", None): "slower", ("gated_matmul", None): "faster"}
    assert told(part.stages) == {("execute", None): "faster"}
    assert part.whole.verdict == "faster"


def test_the_other_way_round_is_the_inverse() -> None:
    a, b = document(ticks(gaussian(3))), document(ticks(gaussian(4), {1: 1.3}))
    ways = [compare(*pair).parts[0].instructions for pair in ((a, b), (b, a))]
    names = [{(each.name, each.layer): each for each in way} for way in ways]
    for key, each in names[0].items():
        other = names[1][key]
        assert each.difference is not None
        assert other.difference is not None
        assert each.difference.ratio * other.difference.ratio == pytest.approx(1)
        assert each.q == pytest.approx(other.q)
        assert (each.a, each.b) == (other.b, other.a)


def test_pure_noise_moves_nothing_more_often_than_promised() -> None:
    wrong = 0
    for seed in range(100):
        a, b = (document(ticks(gaussian(2 * seed + 100 + side), count=32)) for side in (0, 1))
        [part] = compare(a, b).parts
        wrong += bool(told(part.instructions))
    assert wrong <= 5


def with_drift(noise: Noise, slope: float) -> Noise:
    def drift(count: int, instructions: int) -> NDArray[np.float64]:
        factors: NDArray[np.float64] = noise(count, instructions) * np.linspace(
            1, 1 + slope, count
        ).reshape(-1, 1)
        return factors

    return drift


def test_a_drift_inside_a_run_is_noise_and_the_same_as_a_step_is_not() -> None:
    a = document(ticks(gaussian(5, 0.01)))
    drifts = document(ticks(with_drift(gaussian(6, 0.01), 0.1)))
    steps = document(ticks(gaussian(7, 0.01), dict.fromkeys(range(15), 1.05)))
    assert told(compare(a, drifts).parts[0].instructions) == {}
    assert len(told(compare(a, steps).parts[0].instructions)) == 15


def test_all_moved_alike_is_more_likely_the_computer() -> None:
    a = document(ticks(gaussian(8, 0.01)))
    alike = document(ticks(gaussian(9, 0.01), dict.fromkeys(range(15), 1.2)))
    some = document(ticks(gaussian(10, 0.01), dict.fromkeys(range(8), 1.2)))
    assert any("changed alike, +20%" in each for each in compare(a, alike).notes)
    assert not any("alike" in each for each in compare(a, some).notes)


def test_attention_that_grows_is_held_against_its_like() -> None:
    noise = [gaussian(seed, 0.01) for seed in (20, 21, 22)]
    a = document(ticks(noise[0], growth=0.01))
    same = document(ticks(noise[1], growth=0.01, context=110))
    slower = document(ticks(noise[2], {2: 1.05}, growth=0.01, context=110))
    [part] = compare(a, same).parts
    assert part.ticks == (54, 54), "only contexts that both have"
    assert told(part.instructions) == {}
    assert told(compare(a, slower).parts[0].instructions) == {("attend 2", 0): "slower"}


def test_prompts_and_generation_are_told_apart() -> None:
    a = ticks(gaussian(30), rows=40, prompt=39, count=20) + ticks(gaussian(31), count=40)
    b = ticks(gaussian(32), {1: 1.3}, rows=40, prompt=39, count=20) + ticks(gaussian(33), count=40)
    generation, prompt = compare(document(a), document(b)).parts
    assert (generation.kind, prompt.kind) == ("generation", "prompt")
    assert told(generation.instructions) == {}
    assert told(prompt.instructions) == {("matmul 1", 0): "slower"}
    assert prompt.rows == (40, 40)


def test_the_rows_that_both_have_most_of_are_compared() -> None:
    a = ticks(gaussian(40), rows=8, count=30) + ticks(gaussian(41), {1: 3}, rows=4, count=60)
    b = ticks(gaussian(42), rows=8, count=40) + ticks(gaussian(43), {1: 3}, rows=3, count=60)
    [part] = compare(document(a), document(b)).parts
    assert part.rows == (8, 8)
    assert part.ticks == (30, 30)
    assert told(part.instructions) == {}


def test_near_rows_do_if_none_are_the_same_often_enough() -> None:
    def mixed(seed: int) -> list[Document]:
        runs = [ticks(gaussian(seed + rows), rows=rows, count=8) for rows in (32, 33, 34, 35, 36)]
        return [each for run in runs for each in run]

    [part] = compare(document(mixed(100)), document(mixed(200))).parts
    assert part.rows == (32, 35)
    assert part.ticks == (32, 32)


def test_too_few_ticks_say_nothing() -> None:
    a, b = (document(ticks(gaussian(seed), {1: seed}, count=15)) for seed in (1, 2))
    [part] = compare(a, b).parts
    changes = (part.whole, *part.stages, *part.opcodes, *part.instructions)
    assert {each.verdict for each in changes} == {"too few ticks"}


def test_nothing_in_common() -> None:
    found = compare(document(ticks(gaussian(1), rows=1)), document(ticks(gaussian(1), rows=2)))
    assert found.parts == ()
    assert "no ticks of the same kind" in found.notes[-1]
    assert compare(document([]), document([])).parts == ()


def test_instructions_that_only_one_has() -> None:
    a, b = document(ticks(gaussian(1))), document(ticks(gaussian(2)))
    b["instructions"][3] |= {"text": "matmul + residual"}
    found = compare(a, b)
    assert (found.only_a, found.only_b) == (("matmul 3",), ("matmul + residual",))
    assert len(found.parts[0].instructions) == 14


def test_twins_are_paired_in_their_order() -> None:
    def doubled(seed: int, factor: float) -> Document:
        each = document(ticks(gaussian(seed), {1: factor}))
        each["instructions"][3] = each["instructions"][1] | {"index": 3}
        return each

    [part] = compare(doubled(1, 1.0), doubled(2, 2.0)).parts
    assert len(part.instructions) == 15
    assert list(told(part.instructions).values()) == ["slower"]


def test_what_differs_between_two_traces_of_the_same_is_noise() -> None:
    """The computer was 3 % slower from one run to the next."""
    slower = dict.fromkeys(range(15), 1.03)
    a = document(ticks(gaussian(50, 0.01)))
    again = document(ticks(gaussian(51, 0.01), slower))
    b = document(ticks(gaussian(52, 0.01), slower | {6: 1.3}))
    alone, held = compare(a, b).parts[0], compare(a, b, again).parts[0]
    assert len(told(alone.instructions)) == 15, "or this test shows nothing"
    assert told(held.instructions) == {("matmul 1", 1): "slower"}
    assert held.whole.verdict == "no difference"
    notes = " ".join(compare(a, b, again).notes)
    assert re.search(r"both traces of A differ by (2.9|3.\d)%", notes)


def test_twins_that_do_not_differ_hide_nothing() -> None:
    a, again = (document(ticks(gaussian(seed, 0.01))) for seed in (60, 61))
    b = document(ticks(gaussian(62, 0.01), {6: 1.1, 4: 0.8}))
    assert told(compare(a, b, again).parts[0].instructions) == {
        ("matmul 1", 1): "slower",
        ("gated_matmul 4", 0): "faster",
    }


def test_a_twin_of_another_model_or_of_other_ticks() -> None:
    a, b = document(ticks(gaussian(1))), document(ticks(gaussian(2), {6: 1.2}))
    other = document(ticks(gaussian(3)))
    other["model"] |= {"name": "other", "fingerprint": "bb"}
    with pytest.raises(InputError, match="different models"):
        compare(a, b, other)
    elsewhere = document(ticks(gaussian(3), rows=7))
    assert compare(a, b, elsewhere).parts == compare(a, b).parts


# What the traces are of


@pytest.mark.parametrize(
    ("group", "name", "value", "said"),
    [
        ("machine", "threads", 1, "threads differs: 2 in A, 1 in B"),
        ("machine", "kv", "i8", "kv differs: f16 in A, i8 in B"),
        ("machine", "tier", "avx512", "tier differs: avx2 in A, avx512 in B"),
        ("machine", "name", "reference", "machine differs"),
        ("machine", "cpu", "y", "cpu differs"),
        ("model", "exact", True, "exact differs"),
    ],
)
def test_other_settings_are_told(group: str, name: str, value: object, said: str) -> None:
    a, b = (document(ticks(gaussian(1), count=16)) for _ in range(2))
    b[group][name] = value
    assert any(said in each for each in compare(a, b).notes)
    assert not any("differs" in each for each in compare(a, a).notes)


def test_another_model_is_refused() -> None:
    a = document(ticks(gaussian(1), count=16))
    for change in ({"name": "other"}, {"layers": 4}, {"vocabulary": 7}, {}):
        b = document(a["ticks"])
        b["model"] |= {"fingerprint": "bb", **change}
        with pytest.raises(InputError, match="different models"):
            compare(a, b)


def test_the_same_model_compiled_in_another_way_is_not() -> None:
    a = document(ticks(gaussian(1), count=16))
    other_kv, other_program, other_name = (document(a["ticks"]) for _ in range(3))
    other_kv["machine"] |= {"kv": "i8"}
    other_kv["model"] |= {"fingerprint": "bb"}
    other_program["model"] |= {"fingerprint": "bb"}
    other_program["instructions"][0] = instruction(0, "layernorm", 0)
    other_name["model"] |= {"name": "the same under another name"}
    for b in (other_kv, other_program, other_name):
        assert compare(a, b).parts


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"read_gbs": 8.0, "measured": "tuesday"}, "read 10.0 GB/s for A and 8.0 for B (-20%)"),
        ({"read_gbs": 9.9, "measured": "tuesday"}, None),
        ({}, "the same measurement"),
        ({"read_gbs": None, "measured": "tuesday"}, None),
    ],
)
def test_a_yardstick_that_changed_is_told(limits: Document, said: str | None) -> None:
    a, b = (document(ticks(gaussian(1), count=16)) for _ in range(2))
    b["limits"] |= limits
    notes = compare(a, b).notes
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


def test_traces_without_limits_have_no_yardstick() -> None:
    a = document(ticks(gaussian(1), count=16), limits=None)
    assert compare(a, a).notes == ()
