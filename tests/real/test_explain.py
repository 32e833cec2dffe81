"""Explanations of SmolLM2 and MiniLM that anybody would agree with."""

from __future__ import annotations

import numpy as np
import pytest

from overclock.explain.answers import explain_answer
from overclock.explain.encodings import explain_encoding
from overclock.explain.explainer import Explainer
from overclock.explain.explanation import Wanted
from tests.real.models import real

pytestmark = pytest.mark.real


CHAT = "<|im_start|>user\nWhat is the capital of {}?<|im_end|>\n<|im_start|>assistant\n"


def test_what_is_copied_from_the_question_needs_it_and_comes_late() -> None:
    model = real("smollm2")
    prompt = model.tokenizer.encode(CHAT.format("France"), special=True, add_bos=False)
    answer = model.tokenizer.encode("The capital of France is Paris.", add_bos=False)
    found = explain_answer(Explainer(model), prompt, answer, Wanted())
    assert found.occlusion is not None
    assert found.lens is not None
    assert found.looks is not None
    said = [target.text for target in found.targets]
    falls = found.occlusion.by_token(len(found.tokens))
    for word in (" capital", " France"):
        place = said.index(word)
        assert found.tokens[int(np.nanargmax(falls[place]))].text == word
        assert found.targets[place].value == pytest.approx(1, abs=0.05)
    paris = said.index(" Paris")
    layers = len(found.lens.rank)
    assert found.lens.rank[-1, paris] == 0
    assert layers // 2 < found.lens.settled()[paris] < layers
    assert found.lens.rank[0, paris] > 100
    assert found.lens.divergence[0, paris] > 5 * found.lens.divergence[-2, paris]
    assert np.allclose(found.looks.rollout.sum(axis=1), 1, atol=1e-4)


def test_a_sentence_hangs_on_what_it_is_about() -> None:
    model = real("minilm")
    text = "The recipe calls for two eggs and a cup of flour."
    wanted = Wanted(methods=frozenset({"occlusion"}), words=True)
    found = explain_encoding(Explainer(model), text, wanted)
    assert found.occlusion is not None
    words = [
        "".join(found.tokens[place].text for place in group).strip()
        for group in found.occlusion.groups
    ]
    order = [words[column] for column in np.argsort(-found.occlusion.falls[0])]
    assert set(order[:4]) & {"recipe", "eggs", "flour"}
    assert not set(order[-3:]) & {"recipe", "eggs", "flour"}
