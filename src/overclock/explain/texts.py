"""The tokens of a text as a reader sees them, and the words that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from overclock.model.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Token:
    """A token where it stands.

    text: what it adds to the text, empty if a character is not complete yet
    is_special: whether it stands for no part of the text
    """

    id: int
    text: str
    is_special: bool


def tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[Token, ...]:
    """Each id with what it adds to the text; together they are the text."""
    stream = tokenizer.stream()
    frame = tokenizer.special_ids - {tokenizer.unk_id, tokenizer.mask_id}
    texts = [stream.push(id) for id in ids]
    if texts:
        texts[-1] += stream.finish()
    return tuple(Token(id, text, id in frame) for id, text in zip(ids, texts, strict=True))


def one(tokenizer: Tokenizer, id: int) -> str:
    """The text of a token by itself."""
    stream = tokenizer.stream()
    return stream.push(id) + stream.finish()


def groups(found: Sequence[Token], *, words: bool) -> list[tuple[int, ...]]:
    """The places of each token that is not special, or of each word.

    White space belongs to the word behind it; a word also begins behind a special token.
    """
    result: list[list[int]] = []
    begins = True
    for place, token in enumerate(found):
        if token.is_special:
            begins = True
            continue
        if not words or begins or token.text[:1].isspace():
            result.append([])
        result[-1].append(place)
        begins = token.text[-1:].isspace() and not token.text.isspace()
    return [tuple(group) for group in result]
