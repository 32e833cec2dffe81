"""A decoder's answer explained, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from overclock.errors import InputError
from overclock.explain import occlusion, texts
from overclock.explain.explainer import Explainer
from overclock.explain.explanation import (
    Explanation,
    Target,
    Wanted,
    columns_of,
    lens_of,
    looks_of,
)
from overclock.explain.generation import greedy
from overclock.explain.occlusion import Occlusion, Progress


def answer_of(
    explainer: Explainer, prompt: Sequence[int], most: int, progress: Progress
) -> list[int]:
    """The model's own answer: the likeliest tokens, at most `most`.

    Raises InputError if there is no room for them, or the answer is empty.
    """
    explainer.check([*prompt, *range(most)])
    ends = explainer.model.tokenizer.eos_ids
    found = greedy(explainer.usual, prompt, ends, most, progress)
    if not found:
        raise InputError("the model ends its answer at once; give a --target to explain instead")
    return found


def explain_answer(
    explainer: Explainer,
    prompt: Sequence[int],
    answer: Sequence[int],
    wanted: Wanted,
    progress: Progress = lambda done, total: None,
) -> Explanation:
    """Why the model says `answer` behind `prompt`, whether it is its own answer or not.

    Each token is explained from where it was chosen: the token before it. Raises InputError if a
    text is empty or both are too long, or for a layer or head that there is not.
    """
    ids = [*prompt, *answer]
    if not prompt or not answer:
        raise InputError("there is nothing to explain; give a prompt, and a target if any")
    explainer.check(ids)
    explainer.check_layer(wanted.layer, wanted.head)
    tokens = texts.tokens(explainer.model.tokenizer, ids)
    places = range(len(prompt) - 1, len(ids) - 1)
    lens = lens_of(explainer, ids, places, answer, wanted)
    occluded = _occlusion(explainer, prompt, answer, tokens, wanted, progress)
    if occluded is None:
        likelihood = occlusion.likelihood(explainer.usual, prompt, answer)
    else:
        likelihood = occluded.whole
    targets = tuple(
        Target(token.text, (place,), float(np.exp(value)))
        for token, place, value in zip(tokens[len(prompt) :], places, likelihood)
    )
    names = {id: texts.one(explainer.model.tokenizer, id) for id in columns_of(lens)}
    looks = looks_of(explainer, ids, wanted)
    name = explainer.model.name
    return Explanation(name, "decoder", tokens, len(prompt), targets, names, looks, lens, occluded)


def _occlusion(
    explainer: Explainer,
    prompt: Sequence[int],
    answer: Sequence[int],
    tokens: Sequence[texts.Token],
    wanted: Wanted,
    progress: Progress,
) -> Occlusion | None:
    if "occlusion" not in wanted.methods:
        return None
    groups = texts.groups(tokens[: len(prompt)], words=wanted.words)
    return occlusion.of_answer(explainer.usual, prompt, answer, groups, progress)
