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


def test_paris_is_about_france_and_comes_late() -> None:
    model = real("smollm2")
    prompt = model.tokenizer.encode("France, the country in Europe. Its capital is the city of")
    answer = model.tokenizer.encode(" Paris", add_bos=False)
    found = explain_answer(Explainer(model), prompt, answer, Wanted())
    assert found.occlusion is not None
    assert found.lens is not None
    assert found.looks is not None
    assert found.targets[0].value is not None
    assert found.targets[0].value > 0.5
    falls = found.occlusion.by_token(len(found.tokens))[0]
    best = found.tokens[int(np.nanargmax(falls))].text
    assert best in ("France", " capital")
    assert found.lens.rank[-1, 0] == 0
    assert found.lens.settled()[0] > len(found.lens.rank) // 2
    assert found.lens.rank[0, 0] > 100
    assert found.lens.divergence[0, 0] > 10 * found.lens.divergence[-2, 0]
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
