"""Explanations as a whole: what they hold, what is explained, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from overclock import Encoder
from overclock.errors import InputError
from overclock.explain.answers import answer_of, explain_answer
from overclock.explain.encodings import explain_encoding
from overclock.explain.explainer import Explainer
from overclock.explain.explanation import Explanation, Method, Wanted
from overclock.explain.record import maps_record, record
from tests.explain import rigs

EVERYTHING = Wanted()


def nobody(done: int, total: int) -> None:
    """Who is told of nothing."""


def only(method: Method) -> Wanted:
    return Wanted(methods=frozenset({method}))


def answered(name: str, wanted: Wanted = EVERYTHING, most: int = 4) -> Explanation:
    model = rigs.explainer(name)
    prompt = rigs.ids_of(name)
    return explain_answer(model, prompt, answer_of(model, prompt, most, nobody), wanted)


def encoded(name: str, text: str = rigs.TEXT, **options: Any) -> Explanation:
    return explain_encoding(
        rigs.explainer(name), text, options.pop("wanted", EVERYTHING), **options
    )


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_each_token_of_an_answer_is_explained_from_the_one_before(name: str) -> None:
    found = answered(name)
    prompt = rigs.ids_of(name)
    assert found.prompt == len(prompt)
    assert [target.places for target in found.targets] == [
        (len(prompt) - 1 + n,) for n in range(len(found.targets))
    ]
    assert [token.text for token in found.tokens[len(prompt) :]] == [t.text for t in found.targets]
    assert found.occlusion is not None
    likely = np.exp(found.occlusion.whole)
    assert [target.value for target in found.targets] == pytest.approx(likely)


def test_parts_that_were_not_asked_for_are_not_there() -> None:
    assert answered("llama", only("lens")).looks is None
    assert answered("llama", only("lens")).occlusion is None
    assert answered("llama", only("rollout")).lens is None
    whole, part = answered("llama"), answered("llama", only("attention"))
    assert [each.value for each in part.targets] == pytest.approx(
        [each.value for each in whole.targets]
    )


def test_the_lens_ends_in_the_answer_of_exact_mode() -> None:
    pytest.importorskip("overclock._native")
    model = Explainer(rigs.model("llama"), 1, exact=True)
    prompt = rigs.ids_of("llama")
    found = explain_answer(model, prompt, answer_of(model, prompt, 6, nobody), EVERYTHING)
    assert found.lens is not None
    assert not found.lens.rank[-1].any()
    assert found.lens.probability[-1] == pytest.approx([t.value for t in found.targets], rel=1e-2)


def test_a_class_is_the_likeliest_or_the_one_that_is_named() -> None:
    with Encoder(rigs.model("bert-sequence"), 1) as encoder:
        [expected] = encoder.classify_texts(rigs.TEXT)
    found = encoded("bert-sequence")
    assert (found.kind, found.targets[0].text) == ("sequence", expected.label)
    assert found.targets[0].value == pytest.approx(expected.scores[expected.label], abs=1e-5)
    for spelled in ("two", "TWO"):
        other = encoded("bert-sequence", target=spelled)
        assert other.targets[0].value == pytest.approx(expected.scores["two"], abs=1e-5)
    assert other.lens is not None
    assert set(other.names.values()) <= {"one", "two", "three"}


def test_a_label_is_that_of_the_surest_named_token_or_of_a_position() -> None:
    with Encoder(rigs.model("roberta-token"), 1) as encoder:
        [labels] = encoder.label_tokens(rigs.TEXT)
    found = encoded("roberta-token")
    [place] = found.targets[0].places
    named = [each for each in labels if each.label != "O"] or labels
    best = max(named, key=lambda each: each.score)
    assert labels[place - 1].score == pytest.approx(best.score, abs=1e-5)
    assert found.targets[0].text == labels[place - 1].label
    chosen = encoded("roberta-token", position=3)
    assert chosen.targets[0].places == (3,)
    assert chosen.targets[0].text == labels[2].label
    assert encoded("roberta-token", position=3, target="B-PER").targets[0].text == "B-PER"


def test_a_missing_word_is_that_of_the_first_mask_or_of_a_position() -> None:
    text = "the [MASK] fox [MASK]"
    with Encoder(rigs.model("bert"), 1) as encoder:
        [predictions] = encoder.fill_masks(text)
    found = encoded("bert", text)
    assert found.targets[0].places == (predictions[0].position,)
    assert found.targets[0].value == pytest.approx(predictions[0].scores[0], abs=1e-5)
    second = encoded("bert", text, position=predictions[1].position)
    assert second.targets[0].value == pytest.approx(predictions[1].scores[0], abs=1e-5)
    named = encoded("bert", text, target="the")
    assert named.targets[0].text == "the"


def test_without_a_head_the_vector_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    found = encoded("bert-mean")
    assert found.kind == "embedding"
    assert found.lens is None
    assert found.targets[0].places == tuple(range(len(found.tokens)))
    assert found.occlusion is not None
    assert found.occlusion.measure == "cosine"
    assert found.occlusion.whole[0] == pytest.approx(1, abs=1e-6)
    with Encoder(rigs.model("bert-mean"), 1) as encoder:
        ids = [token.id for token in found.tokens]
        mask = rigs.model("bert-mean").tokenizer.mask_id
        texts = [ids, [*ids[:2], mask, *ids[3:]]]
        monkeypatch.setattr(encoder, "encode", lambda _: texts)
        one, two = encoder.embed(["x", "y"])
    cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert found.occlusion.by_token(len(ids))[0, 2] == pytest.approx(1 - cosine, abs=1e-5)
    assert encoded("bert-cls").targets[0].places == (0,)


def test_special_tokens_are_not_left_out() -> None:
    found = encoded("bert-sequence")
    assert found.occlusion is not None
    falls = found.occlusion.by_token(len(found.tokens))[0]
    assert [bool(np.isnan(fall)) for fall in falls] == [t.is_special for t in found.tokens]


def test_words_fall_together() -> None:
    found = answered("llama", Wanted(methods=frozenset({"occlusion"}), words=True))
    assert found.occlusion is not None
    assert len(found.occlusion.groups) == len(rigs.TEXT.split())


def test_a_record_is_json_with_every_figure() -> None:
    found = answered("gemma3", Wanted(keep_maps=True))
    value = json.loads(json.dumps({**record(found), "maps": maps_record(found)}, allow_nan=False))
    targets, tokens = len(found.targets), len(found.tokens)
    assert len(value["tokens"]) == tokens
    assert np.shape(value["attention"]["map"]) == (tokens, tokens)
    assert np.shape(value["attention"]["targets"]) == (targets, tokens)
    assert np.shape(value["attention"]["rollout"]) == (targets, tokens)
    assert np.shape(value["attention"]["entropy"]) == (3, 4)
    assert np.shape(value["lens"]["rank"]) == (3, targets)
    assert np.shape(value["lens"]["top"]) == (3, targets, 5)
    assert np.shape(value["occlusion"]["falls"]) == (targets, tokens)
    assert value["occlusion"]["falls"][0][0] is None
    assert value["maps"]["causal"] is True
    assert value["attention"]["targets"][1] == value["attention"]["map"][found.prompt]
    assert record(answered("llama", only("lens")))["attention"] is None


@pytest.mark.parametrize(
    ("name", "text", "options", "words"),
    [
        ("bert-sequence", " \n", {}, "give some text"),
        ("bert-sequence", "x " * 500, {}, "explanation takes at most 64"),
        ("bert-sequence", "x", {"target": "four"}, "no class 'four'; the model's are one, two"),
        ("bert-sequence", "x", {"position": 1}, "a position is for models"),
        ("bert-mean", "x", {"target": "one"}, "no head"),
        ("bert-mean", "x", {"wanted": only("lens")}, "no lens; ask for another --method"),
        ("bert", "nothing is missing", {}, r"write \[MASK\]"),
        ("bert", "the [MASK]", {"target": "two words"}, "only one can stand"),
        ("bert", "the [MASK]", {"position": 99}, "no token 99"),
        ("roberta-token", "x", {"position": -1}, "no token -1"),
        ("roberta-token", "x", {"wanted": Wanted(layer=9)}, "no layer 9; its layers are 0 to 1"),
    ],
)
def test_impossible_questions_are_refused(
    name: str, text: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        encoded(name, text, **options)


def test_impossible_answers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = rigs.explainer("llama")
    with pytest.raises(InputError, match="give a prompt"):
        explain_answer(model, [], [3], EVERYTHING)
    with pytest.raises(InputError, match="give a prompt"):
        explain_answer(model, [3], [], EVERYTHING)
    with pytest.raises(InputError, match="at most 128"):
        explain_answer(model, [3] * 128, [3], EVERYTHING)
    with pytest.raises(InputError, match="at most 128"):
        answer_of(model, [3] * 120, 9, nobody)
    with pytest.raises(InputError, match="no head 4"):
        explain_answer(model, [3], [3], Wanted(head=4))
    with pytest.raises(InputError, match="tokens is 0"):
        Explainer(rigs.model("llama"), tokens=0)
    monkeypatch.setattr("overclock.explain.answers.greedy", lambda *_: [])
    with pytest.raises(InputError, match="ends its answer at once; give a --target"):
        answer_of(model, [3], 4, nobody)
