"""Answers drawn at random from what a constraint allows, and the tokenizers to draw them with."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock.clock.grammar import Constraint, Grammar, Grammars
from overclock.clock.grammar_tokens import Tokens
from overclock.model.tokenizer import Tokenizer
from tests.model import as_gguf
from tests.model.byte_level import train_byte_level

FIXTURES = Path(__file__).parents[1] / "fixtures"
KINDS = ("fixture", "byte-level", "sentencepiece", "sentencepiece without prefix")
PADDING = 37
"""Rows of the model's matrix behind the last token."""

_MOST = 6000
_CLOSING = {b"}": 60.0, b"]": 60.0, b"@": 60.0, b'"': 20.0}
_OPENING = b"[{,\\ \t\r\n"
_USUAL, _RARE = 0.05, 0.001


@cache
def tokenizer(kind: str) -> Tokenizer:
    """A small tokenizer of each kind, all with an end of text."""
    if kind == "fixture":
        return Tokenizer.from_file(FIXTURES / "llama" / "tokenizer.json", {"eos_token": "</s>"})
    if kind == "byte-level":
        keys = {"bos_token_id": 1, "eos_token_id": 2, "add_bos_token": False}
        return Tokenizer.from_gguf(as_gguf.byte_level(train_byte_level("qwen2"), "qwen2", **keys))
    return _sentencepiece("llama" if kind == "sentencepiece" else "gemma")


def _sentencepiece(kind: str) -> Tokenizer:
    pytest.importorskip("sentencepiece")
    from tests.model.test_tokenizer_sentencepiece import metadata, train

    return Tokenizer.from_gguf(metadata(kind, train(kind)))


@cache
def grammars(kind: str, *, other: bool = False) -> Grammars:
    """The grammars of a model with more ids than its tokenizer has tokens; others of the same."""
    known = tokenizer(kind)
    return Grammars(known, known.vocabulary + PADDING)


def allowed(constraint: Constraint) -> list[int]:
    """The ids that may come next."""
    return [int(id) for id in _ids(constraint)]


def _ids(constraint: Constraint) -> NDArray[np.int64]:
    return np.flatnonzero(np.unpackbits(constraint.mask().view(np.uint8), bitorder="little"))


def walk(kind: str, grammar: Grammar, seed: int) -> list[int]:
    """The tokens of an answer, each drawn from those allowed; the end token is left out."""
    return drawn(grammars(kind).start(grammar), tokenizer(kind), seed)


def drawn(constraint: Constraint, known: Tokenizer, seed: int) -> list[int]:
    """See `walk`. After some tokens what is open is closed, as far as the grammar lets it."""
    draw = np.random.default_rng(seed)
    tokens: list[int] = []
    while not constraint.finished:
        assert len(tokens) < _MOST, f"no end after {shown(known, tokens)[-200:]!r}"
        ids = _ids(constraint)
        chances = _hurry(known)[ids] if len(tokens) > 60 else np.ones(ids.size)
        token = int(draw.choice(ids, p=chances / chances.sum()))
        constraint.push(token)
        if token not in known.eos_ids:
            tokens.append(token)
    return tokens


@cache
def _hurry(known: Tokenizer) -> NDArray[np.float64]:
    """How likely each token is when an answer should end."""
    texts = Tokens(known, known.vocabulary).spelled
    first = [text.lstrip(b" ")[:1] for text in texts]
    weights = [_CLOSING.get(letter, _RARE if letter in _OPENING else _USUAL) for letter in first]
    return np.array([1000.0 if id in known.eos_ids else w for id, w in enumerate(weights)])


def shown(known: Tokenizer, ids: list[int]) -> str:
    """The text as a stream shows it, token by token."""
    stream = known.stream()
    return "".join([*map(stream.push, ids), stream.finish()])
