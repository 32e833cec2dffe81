"""Arrays of strings are read the same by the fast way and one by one."""

from __future__ import annotations

import mmap
import struct
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.model import strings
from overclock.model.strings import read_strings


def mapped(data: bytes) -> mmap.mmap:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def packed(items: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(item)) + item for item in items)


ITEMS = st.one_of(
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace")),
    st.binary(max_size=20),
    st.sampled_from([b"", b"\0", b"\0" * 9, b"\1" + b"\0" * 7, b"a" * 255, b"b" * 256, b"c" * 700]),
)


@given(
    items=st.lists(ITEMS, max_size=60),
    before=st.binary(min_size=1, max_size=9),
    after=st.binary(max_size=20),
    window=st.sampled_from([9, 40, 300, 1 << 20]),
)
def test_any_strings_come_back(
    items: list[bytes], before: bytes, after: bytes, window: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strings, "_WINDOW", window)
        data = before + packed(items) + after
        found, stop = read_strings(mapped(data), len(before), len(items))
    assert found == [item.decode("utf-8", "surrogateescape") for item in items]
    assert stop == len(data) - len(after)


@given(items=st.lists(ITEMS, min_size=1, max_size=20), cut=st.integers(1, 40))
def test_fewer_come_back_from_a_file_that_ends(items: list[bytes], cut: int) -> None:
    whole = b"x" + packed(items)
    data = whole[: max(1, len(whole) - cut)]
    found, _ = read_strings(mapped(data), 1, len(items))
    assert len(found) < len(items)
    assert found == [item.decode("utf-8", "surrogateescape") for item in items[: len(found)]]


def test_a_large_vocabulary_takes_one_window_after_the_other() -> None:
    items = [f"Ġword{number}".encode() for number in range(200_000)]
    found, _ = read_strings(mapped(b"x" + packed(items)), 1, len(items))
    assert found == [item.decode() for item in items]
