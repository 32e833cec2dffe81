"""Arrays of strings in a GGUF file, fast: a vocabulary holds hundreds of thousands.

A string is a u64 length and its bytes, so where one starts is known only when the one before has
been read. Reading them one by one costs a good part of a second for a large vocabulary. Nearly
every string is 1 to 255 bytes long and holds no zero byte, which makes its header (a byte and
seven zeros) easy to see: NumPy finds all such places at once, and a chain of them in which each
starts where the one before ends is the array. Strings that are not like that are read one by one.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

_HEADER: Final = 8
_U64: Final = struct.Struct("<Q")
_WINDOW: Final = 1 << 20
_SHORT: Final = 1 << 8  # lengths below this have a header of one byte and seven zeros


def read_strings(map: mmap.mmap, position: int, count: int) -> tuple[list[str], int]:
    """`count` strings from `position` on, and where they end; fewer if the file ends before.

    UTF-8; bytes that are not become lone surrogates ("surrogateescape").
    """
    strings: list[str] = []
    while len(strings) < count:
        missing = count - len(strings)
        size = min(_WINDOW, (_HEADER + _SHORT) * missing)
        found, length = _Window(map[position : position + size]).read(missing)
        if not found:  # the string is longer than the window, or the file ends
            found, length = _read_one(map, position)
        if not found:
            break
        strings += found
        position += length
    return strings, position


def _read_one(data: bytes | mmap.mmap, start: int) -> tuple[list[str], int]:
    """The string at `start` and the bytes it takes with its header; nothing if `data` ends."""
    body = start + _HEADER
    if body > len(data):
        return [], 0
    stop: int = body + _U64.unpack_from(data, start)[0]
    if stop > len(data):
        return [], 0
    return [data[body:stop].decode("utf-8", "surrogateescape")], stop - start


class _Window:
    """A part of the file that starts with a string.

    `places[i]` is where a short string may start; places up to the next of the `breaks` follow
    each other without a gap.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, np.uint8)
        self.places = self._short_headers()
        self.breaks = np.flatnonzero(self._ends(self.places)[:-1] != self.places[1:])

    def _short_headers(self) -> NDArray[np.int64]:
        """Where a u64 from 1 to 255 stands, with as many bytes behind it in the window."""
        found = np.zeros(len(self.data), np.bool_)
        for shift in range(min(_HEADER, len(self.data))):
            words = self.bytes[shift : shift + (len(self.data) - shift) // 8 * 8].view("<u8")
            found[shift : shift + 8 * len(words) : 8] = (words - np.uint64(1)) < _SHORT - 1
        places = np.flatnonzero(found)
        return places[self._ends(places) <= len(self.data)]

    def _ends(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return places + _HEADER + self.bytes[places]

    def read(self, count: int) -> tuple[list[str], int]:
        """At most `count` strings, as many as the window holds whole, and the bytes they take."""
        strings: list[str] = []
        start = 0
        while len(strings) < count:
            run = self._run(start)[: count - len(strings)]
            found, length = self._decode(run) if len(run) else _read_one(self.data, start)
            if not found:
                break
            strings += found
            start += length
        return strings, start

    def _run(self, start: int) -> NDArray[np.int64]:
        """The places of short strings from `start` on that follow each other without a gap."""
        first = int(np.searchsorted(self.places, start))
        if first == len(self.places) or self.places[first] != start:
            return self.places[:0]
        after = int(np.searchsorted(self.breaks, first))
        last = int(self.breaks[after]) if after < len(self.breaks) else len(self.places) - 1
        return self.places[first : last + 1]

    def _decode(self, run: NDArray[np.int64]) -> tuple[list[str], int]:
        """The strings of a run, decoded as one text in which each header is one zero byte."""
        start, stop = int(run[0]), int(self._ends(run[-1:])[0])
        text = self.bytes[start:stop].copy()
        text[run - start] = 0
        kept = text != 0
        if len(text) - np.count_nonzero(kept) > _HEADER * len(run):  # a string holds a zero byte
            return [_read_one(self.data, place)[0][0] for place in run.tolist()], stop - start
        kept[:-1] |= kept[1:]  # the last byte of a header: what follows is the string
        joined = text[kept].tobytes().decode("utf-8", "surrogateescape")
        return joined.split("\0")[1:], stop - start
