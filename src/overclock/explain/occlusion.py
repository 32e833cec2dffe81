"""Occlusion: how much less likely the answer becomes when a part of the input is left out.

Zeiler & Fergus 2014 for images, Li et al. 2016 for text. A decoder reads its prompt without the
tokens; an encoder, whose positions would move, reads a mask in their place if it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overclock.explain.lens import log_softmax
from overclock.explain.running import Array, Piece, Running
from overclock.program.program import PAGE_TOKENS

Group = tuple[int, ...]
"""Places of tokens that are left out together."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Occlusion:
    """What each of A answers loses without each of G groups of tokens.

    measure: what falls: log-probability (nats), score, or cosine of the embedding to the whole one
    groups: the places that were left out together
    whole: ``f64[A]``, the measure with everything there
    falls: ``f64[A, G]``, how much it falls; negative where the answer gains
    """

    measure: str
    groups: tuple[Group, ...]
    whole: NDArray[np.float64]
    falls: NDArray[np.float64]

    def by_token(self, tokens: int) -> NDArray[np.float64]:
        """Each token's own group's fall, ``f64[A, tokens]``; NaN where nothing was left out."""
        spread = np.full((len(self.whole), tokens), np.nan)
        for column, group in enumerate(self.groups):
            spread[:, list(group)] = self.falls[:, [column]]
        return spread


def of_answer(
    running: Running,
    prompt: Sequence[int],
    answer: Sequence[int],
    groups: Sequence[Group],
    progress: Progress,
) -> Occlusion:
    """What each token of a decoder's `answer` owes to the groups of its `prompt`.

    A group that is the whole prompt is passed over: nothing would be left to answer.
    """
    kept = tuple(group for group in groups if len(group) < len(prompt))
    # This also fills the KV pages that the others begin with.
    before = likelihood(running, prompt, answer)
    pieces = [_without(prompt, answer, group) for group in kept]
    found = []
    for logits in running.each(pieces, "logits"):
        found.append(before - _chosen(logits, answer))
        progress(len(found), len(kept))
    falls = np.array(found).reshape(-1, len(answer)).T
    return Occlusion("log-probability", kept, before, falls)


def likelihood(
    running: Running, prompt: Sequence[int], answer: Sequence[int]
) -> NDArray[np.float64]:
    """The log-probability of each token of `answer` behind `prompt`, ``f64[A]``."""
    whole = [*prompt, *answer[:-1]]
    rows = range(len(prompt) - 1, len(whole))
    return _chosen(running.machine.run(running.sequence(whole, rows, "logits")), answer)


def _without(prompt: Sequence[int], answer: Sequence[int], group: Group) -> Piece:
    """The prompt without the group, and the answer but for its last token.

    Up to the first token left out it is the whole prompt, whose KV pages it shares.
    """
    ids = [token for place, token in enumerate(prompt) if place not in group]
    asked = len(ids) - 1  # the row that says the answer's first token
    context = min(group[0], asked) // PAGE_TOKENS * PAGE_TOKENS
    ids += answer[:-1]
    return Piece(ids[context:], range(asked - context, len(ids) - context), context)


def _chosen(logits: Array, answer: Sequence[int]) -> NDArray[np.float64]:
    """The log-probability of each answer token, ``f64[A]``."""
    return log_softmax(logits)[np.arange(len(answer)), list(answer)].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an encoder about each text.

    output: which of the program's; rows: which are wanted, where they can be chosen
    judge: the number that is measured, from the output's rows of one text
    measure: what that number is
    """

    output: str
    rows: Sequence[int]
    judge: Callable[[Array], float]
    measure: str


def of_encoding(
    running: Running,
    ids: Sequence[int],
    mask: int,
    groups: Sequence[Group],
    question: Question,
    progress: Progress,
) -> Occlusion:
    """What an encoder's answer owes to the groups of its text; `mask` stands in their place."""
    texts = [ids, *(_masked(ids, group, mask) for group in groups)]
    pieces = [Piece(text, question.rows) for text in texts]
    found = []
    for values in running.each(pieces, question.output):
        found.append(question.judge(values))
        progress(len(found), len(pieces))
    whole, *others = found
    return Occlusion(question.measure, tuple(groups), np.array([whole]), whole - np.array([others]))


def _masked(ids: Sequence[int], group: Group, mask: int) -> list[int]:
    return [mask if place in group else token for place, token in enumerate(ids)]
