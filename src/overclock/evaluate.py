"""How well a model knows a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overclock.engine import LLM
from overclock.errors import InputError

_ROWS = 32
"""Rows of logits that are taken to f64 at a time."""


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean negative log-likelihood; the share of tokens guessed right; tokens scored."""

    perplexity: float
    top1: float
    tokens: int


def perplexity(
    llm: LLM,
    text: str,
    *,
    window: int = 512,
    windows: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Perplexity:
    """How well `llm` predicts `text`, in consecutive windows of `window` tokens.

    Each window starts anew, with the model's BOS in front if its tokenizer adds one; the first
    token of a window is not scored. `windows` is how many to take, None for all; the last may be
    shorter. `progress` is told the windows done and their total.

    Raises InputError if the text is too short, or a window does not fit the context.
    """
    bos = _bos(llm)
    pieces = _windows(llm, text, window, windows, len(bos))
    loss, right, tokens = 0.0, 0, 0
    for done, piece in enumerate(pieces, 1):
        for losses, hits in _predictions(llm, bos, piece):
            loss += float(losses.sum())
            right += int(hits.sum())
        tokens += len(piece) - 1
        progress(done, len(pieces))
    mean = loss / tokens
    return Perplexity(math.exp(mean) if mean < 700 else math.inf, right / tokens, tokens)


def _bos(llm: LLM) -> list[int]:
    tokenizer = llm.model.tokenizer
    if not tokenizer.adds_bos:
        return []
    assert tokenizer.bos_id is not None
    return [tokenizer.bos_id]


def _windows(llm: LLM, text: str, window: int, windows: int | None, bos: int) -> list[list[int]]:
    if not 2 <= window <= llm.context - bos:
        raise InputError(
            f"a window of {window} tokens is not possible; with this model it must have 2 to "
            f"{llm.context - bos}"
        )
    if windows is not None and windows < 1:
        raise InputError(f"windows is {windows}; it must be 1 or more")
    ids = llm.model.tokenizer.encode(text, add_bos=False)
    pieces = [ids[start : start + window] for start in range(0, len(ids), window)][:windows]
    pieces = [piece for piece in pieces if len(piece) > 1]
    if not pieces:
        raise InputError(f"the text has {len(ids)} tokens; it takes 2 at least to score one")
    return pieces


def _predictions(
    llm: LLM, bos: list[int], piece: list[int]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Negative log-likelihood ``f64[n]`` and hit ``bool[n]`` of each token but the first."""
    ids = np.array([*bos, *piece])
    row = 0  # of the first logits in a block: they are about token row + 1
    for block in llm.score(ids[:-1]):
        for start in range(0, len(block), _ROWS):
            logits = block[start : start + _ROWS]
            first = row + start + 1
            scored = max(0, len(bos) + 1 - first)  # rows that are about BOS or the first token
            wanted = ids[first + scored : first + len(logits)]
            yield _judge(logits[scored:], wanted)
        row += len(block)


def _judge(
    logits: NDArray[np.float32], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    exact = logits.astype(np.float64)
    most = exact.max(axis=1, initial=-math.inf)
    sums = np.exp(exact - most[:, None]).sum(axis=1)
    rows = np.arange(len(wanted))
    return most + np.log(sums) - exact[rows, wanted], logits.argmax(axis=1) == wanted
