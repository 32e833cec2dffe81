"""What each token of a model spells, as the grammar engine (llguidance) wants to know it.

A grammar is about the text that is shown, so a token's bytes here are those that the detokenizer
makes of it (`overclock.model.detokenizer`): byte-level vocabularies write bytes as letters,
SentencePiece ones write a space as ``▁`` and single bytes as ``<0xE4>``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from overclock.model.detokenizer import token_bytes
from overclock.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_BYTE = re.compile("<0x([0-9A-F]{2})>")
_SPACE = "▁"  # how SentencePiece writes a space
_BYTE_SPACE = "Ġ"  # how byte-level vocabularies write one
_GUARD = "\x02"  # put in front of a text so that it is not at the beginning
_PART = 1000  # characters that are tokenized at a time
_LONGEST = 32  # bytes of a token that the greedy tokenizer looks for


class Tokens:
    """The tokens of a model with `vocabulary` ids (V), some of which may be empty."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = vocabulary

    @cached_property
    def spelled(self) -> list[bytes]:
        """The bytes of each id; empty for those that only pad the model's matrix."""
        known = min(self._tokenizer.vocabulary, self.vocabulary)
        bytes_of = token_bytes if self._is_byte_level else piece_bytes
        table = [bytes_of(self._tokenizer.token(id)) for id in range(known)]
        return table + [b""] * (self.vocabulary - known)

    @cached_property
    def special(self) -> frozenset[int]:
        """Ids of tokens that carry structure: no text of a grammar is ever spelled with them."""
        tokenizer = self._tokenizer
        roles = (tokenizer.bos_id, tokenizer.unk_id, tokenizer.pad_id, *self.ends)
        found = tokenizer.special_ids.union(id for id in roles if id is not None)
        return frozenset(id for id in found if id < self.vocabulary)

    @cached_property
    def ends(self) -> list[int]:
        """Ids that end a text, in rising order."""
        return sorted(id for id in self._tokenizer.eos_ids if id < self.vocabulary)

    def special_id(self, spelling: str) -> int | None:
        """The id of a special token, or None if `spelling` is none or is plain text."""
        id = self._tokenizer.id(spelling)
        return id if id in self.special else None

    @cached_property
    def drops_first_space(self) -> bool:
        """Whether a space at the very beginning of an answer is not shown (Llama 2, T5)."""
        pieces = map(self._tokenizer.token, range(self._tokenizer.vocabulary))
        words = (id for id, piece in enumerate(pieces) if piece[:1] == _SPACE and piece[1:])
        word = None if self._is_byte_level else next(words, None)
        if word is None:
            return False
        return self._tokenizer.decode([word]) == self._tokenizer.token(word)[1:].replace(
            _SPACE, " "
        )

    @cached_property
    def with_space(self) -> NDArray[np.uint32]:
        """uint32 [ceil(V / 32)], as a mask: the tokens that begin with a space."""
        flags = np.zeros((self.vocabulary + 31) // 32 * 32, np.uint8)
        flags[: self.vocabulary] = [spelled[:1] == b" " for spelled in self.spelled]
        flags[list(self.special)] = 0
        return np.packbits(flags, bitorder="little").view("<u4")

    def encode(self, text: str) -> list[int]:
        """The tokens a model would write `text` with in the middle of an answer.

        They spell exactly `text`: no space in front, nothing normalised. Where the tokenizer does
        not do that, the longest fitting tokens are taken one by one. Long texts are cut, because
        a tokenizer may take quadratic time for what it does not split itself.
        """
        parts = (text[at : at + _PART] for at in range(0, len(text), _PART))
        return [id for part in parts for id in self._encode(part)]

    def _encode(self, text: str) -> list[int]:
        wanted = text.encode()
        ids = self._tokenizer.encode(text, add_bos=False)
        if self._spell(ids, wanted):
            return ids
        ids = self._behind_guard(text)
        return ids if self._spell(ids, wanted) else self._greedy(wanted)

    def _behind_guard(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(_GUARD + text, add_bos=False)
        for cut in (1, 2):
            if self._joined(ids[:cut]).lstrip(b" ") == _GUARD.encode():
                return ids[cut:]
        return []

    def _greedy(self, wanted: bytes) -> list[int]:
        ids = []
        while wanted:
            sizes = range(min(_LONGEST, len(wanted)), 0, -1)
            size = next((size for size in sizes if wanted[:size] in self._ids), None)
            if size is None:
                break
            ids.append(self._ids[wanted[:size]])
            wanted = wanted[size:]
        return ids

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        plain = (id for id in range(self.vocabulary) if id not in self.special)
        return {self.spelled[id]: id for id in plain if self.spelled[id]}

    def _spell(self, ids: Sequence[int], wanted: bytes) -> bool:
        return self._joined(ids) == wanted

    def _joined(self, ids: Sequence[int]) -> bytes:
        if any(id >= self.vocabulary for id in ids):
            return b""
        return b"".join(b"" if id in self.special else self.spelled[id] for id in ids)

    @cached_property
    def _is_byte_level(self) -> bool:
        space = self._tokenizer.id(_BYTE_SPACE)
        return space is not None and self._tokenizer.decode([space]) == " "


def piece_bytes(piece: str) -> bytes:
    """The bytes that a piece of a SentencePiece vocabulary stands for, inside a text."""
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(_SPACE, " ").encode()


class _Wrapper:
    """What llguidance asks of a tokenizer that it does not know."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokens: Tokens) -> None:
        # Without an end token, one that the model does not have stands for the end.
        made_up = [] if tokens.ends else [b"<end>"]
        # No text has this byte, and llguidance marks its own special tokens with it.
        texts = [b"" if text[:1] == b"\xff" else text for text in tokens.spelled]
        self.tokens = texts + made_up
        self.ends = tokens.ends or [tokens.vocabulary]
        self.eos_token_id = self.ends[0]
        self.special_token_ids = [*tokens.special, *self.ends]
        self._encode = tokens.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def engine_tokenizer(tokens: Tokens) -> LLTokenizer:
    """llguidance's picture of `tokens`. Takes about 0.1 s for 50,000 tokens."""
    from llguidance import LLTokenizer

    wrapper = _Wrapper(tokens)
    # The types that llguidance declares want its own base class; what it reads is this.
    return LLTokenizer(wrapper, eos_token=wrapper.ends)  # type: ignore[arg-type]
