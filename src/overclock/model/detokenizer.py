"""Token ids back to text, one at a time, never showing half a character.

What the pieces of a stream add up to is what `Tokenizer.decode` gives for all ids at once.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol


class DetokenizerStream(Protocol):
    """Turns ids into text as they come; use one stream for one answer."""

    def push(self, id: int) -> str:
        """The text that became certain with this id: often empty, never half a character."""
        ...

    def finish(self) -> str:
        """The rest, once no more ids come; an unfinished character shows as U+FFFD."""
        ...


@cache
def byte_letters() -> dict[str, int]:
    """The letter that byte-level vocabularies write for each byte, as letter → byte (GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted(set(range(256)).difference(printable))
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + rank): byte for rank, byte in enumerate(others)}


def token_bytes(token: str) -> bytes:
    """The bytes that a token of a byte-level vocabulary stands for.

    A token with a letter outside the byte alphabet (an added one) stands for itself.
    """
    letters = byte_letters()
    try:
        return bytes([letters[letter] for letter in token])
    except KeyError:
        return token.encode()


class ByteStream:
    """For byte-level vocabularies: ids become bytes, and bytes become text when they can."""

    def __init__(self, token: Callable[[int], str]) -> None:
        self._token = token
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that became certain with this id."""
        return self._decoder.decode(token_bytes(self._token(id)))

    def finish(self) -> str:
        """The rest, with U+FFFD for an unfinished character."""
        return self._decoder.decode(b"", final=True)


class PieceStream:
    """For vocabularies whose tokens are text, apart from single bytes such as ``<0xE4>``.

    A run of bytes is held back until another token ends it: only then is it certain whether the
    run is valid UTF-8 as a whole. What a piece looks like depends on being the first (a leading
    space goes) but on nothing later, so it is decoded behind the first ids that gave any text:

        anchor ids │ held ids        text of both − text of the anchor = what is shown
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], is_byte: Callable[[int], bool]
    ) -> None:
        self._decode = decode
        self._is_byte = is_byte
        self._anchor: list[int] = []
        self._anchor_text = ""
        self._held: list[int] = []

    def push(self, id: int) -> str:
        """The text that became certain with this id."""
        self._held.append(id)
        return "" if self._is_byte(id) else self._show()

    def finish(self) -> str:
        """The rest, with U+FFFD for bytes that are no character."""
        return self._show() if self._held else ""

    def _show(self) -> str:
        ids = self._anchor + self._held
        text = self._decode(ids)
        shown = text[len(self._anchor_text) :]
        if not self._anchor_text:
            self._anchor, self._anchor_text = ids, text
        self._held = []
        return shown
