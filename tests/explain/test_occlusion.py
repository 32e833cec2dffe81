"""Occlusion against what comes of reading each text by itself, from its first token on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock import LLM, Encoder
from overclock.explain import occlusion, running
from overclock.explain.generation import greedy
from overclock.explain.lens import log_softmax
from overclock.explain.occlusion import Group, Occlusion, Question
from overclock.machine.machine import Machine
from tests.explain import rigs
from tests.machine.rig import decoder_batch, encoder_batch, page_table


def nobody(done: int, total: int) -> None:
    """Who is told of nothing."""


def alone(machine: Machine, prompt: list[int], answer: list[int]) -> NDArray[np.float64]:
    """The log-probabilities of an answer, in a run of its own."""
    ids = np.array([*prompt, *answer], np.int32)
    logits = machine.run(decoder_batch([ids], [0], page_table([len(ids)]), [(0, len(ids))]))
    rows = log_softmax(logits)[len(prompt) - 1 : -1]
    return rows[np.arange(len(answer)), answer].astype(np.float64)


def random_ids(name: str, count: int) -> list[int]:
    vocabulary = rigs.model(name).config.vocabulary
    return np.random.default_rng(count).integers(5, vocabulary, count).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("most", [1024, 1])
@pytest.mark.parametrize(("name", "length"), [("llama-gguf", 97), ("gemma3", 65), ("qwen3", 2)])
def test_it_is_what_each_text_by_itself_says(
    name: str, length: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "RUN_TOKENS", most)
    model = rigs.explainer(name)
    prompt, answer = random_ids(name, length), [7, 9, 11]
    groups: list[Group] = [(place,) for place in range(length)]
    if length > 40:
        groups += [(3, 4, 5), (30, 31, 32, 33), (length - 2, length - 1)]
    found = occlusion.of_answer(model.usual, prompt, answer, groups, nobody)
    np.testing.assert_array_equal(found.whole, alone(model.usual.machine, prompt, answer))
    assert found.falls.shape == (3, len(groups))
    for group, falls in zip(groups, found.falls.T, strict=True):
        rest = [token for place, token in enumerate(prompt) if place not in group]
        wanted = found.whole - alone(model.usual.machine, rest, answer)
        np.testing.assert_array_equal(falls, wanted)


def test_what_would_leave_nothing_is_passed_over() -> None:
    model = rigs.explainer("llama")
    found = occlusion.of_answer(model.usual, [7], [8], [(0,)], nobody)
    assert found.falls.shape == (1, 0)
    assert np.isnan(found.by_token(1)).all()


def test_large_answers_go_in_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = rigs.explainer("llama")
    prompt, answer = random_ids("llama", 40), [7, 9]
    groups: list[Group] = [(place,) for place in range(40)]
    wanted = occlusion.of_answer(model.usual, prompt, answer, groups, nobody)
    monkeypatch.setattr(running, "RUN_BYTES", 1)
    told: list[tuple[int, int]] = []
    found = occlusion.of_answer(
        model.usual, prompt, answer, groups, lambda done, total: told.append((done, total))
    )
    np.testing.assert_array_equal(found.falls, wanted.falls)
    assert told == [(n, 40) for n in range(1, 41)]


def test_classes_are_those_of_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "distilbert-sequence"
    ids = rigs.ids_of(name)
    mask = rigs.model(name).tokenizer.mask_id
    assert mask is not None
    groups: list[Group] = [(1,), (2, 3)]
    question = Question("scores", (), lambda rows: float(log_softmax(rows)[0, 1]), "x")
    found = occlusion.of_encoding(rigs.explainer(name).usual, ids, mask, groups, question, nobody)
    texts = [
        [mask if place in group else token for place, token in enumerate(ids)]
        for group in [(), *groups]
    ]
    with Encoder(rigs.model(name), 1) as encoder:
        monkeypatch.setattr(encoder, "encode", lambda _: texts)
        scores = [np.log(each.scores["POSITIVE"]) for each in encoder.classify_texts(["x"] * 3)]
    assert found.whole[0] == pytest.approx(scores[0], abs=1e-5)
    assert found.falls[0] == pytest.approx(scores[0] - np.array(scores[1:]), abs=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta-token"])
def test_each_text_has_its_own_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RUN_TOKENS", 30)
    model = rigs.explainer(name).usual
    ids = rigs.ids_of(name)
    groups: list[Group] = [(place,) for place in range(1, len(ids) - 1)]
    row = 4 if name == "roberta-token" else 0
    question = Question("scores", (4,), lambda rows: float(rows[row, 2]), "x")
    found = occlusion.of_encoding(model, ids, 4, groups, question, nobody)
    for group, fall in zip(groups, found.falls[0], strict=True):
        changed = [4 if place in group else token for place, token in enumerate(ids)]
        values = model.machine.run(encoder_batch([np.array(changed, np.int32)], "scores"))
        assert fall == pytest.approx(found.whole[0] - float(values[4, 2]), abs=1e-6)


def test_numbers_by_token() -> None:
    found = Occlusion("x", ((1,), (2, 3)), np.zeros(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
    nan = float("nan")
    wanted = [[nan, 1, 2, 2], [nan, 3, 4, 4]]
    np.testing.assert_array_equal(found.by_token(4), wanted)


@pytest.mark.parametrize("name", ["llama", "llama-gguf", "gemma3"])
def test_the_answer_is_that_of_run(name: str) -> None:
    model = rigs.explainer(name)
    prompt = rigs.ids_of(name)
    with LLM(rigs.model(name), 1) as llm:
        free = llm.generate(prompt, 20, ignore_eos=True)
        own = llm.generate(prompt, 20)
    assert greedy(model.usual, prompt, (), 20, nobody) == list(free.token_ids)
    ends = rigs.model(name).tokenizer.eos_ids
    found = greedy(model.usual, prompt, ends, 20, nobody)
    assert found == [id for id in own.token_ids if id not in ends]
    third = free.token_ids[2]
    cut = free.token_ids[: free.token_ids.index(third)]
    assert greedy(model.usual, prompt, (third,), 20, nobody) == list(cut)
