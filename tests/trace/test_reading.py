"""Traces of others: read whole, or refused with a sentence; nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.trace.compare import compare
from overclock.trace.reading import read_document
from tests.trace.noisy_documents import Document, document, gaussian, ticks, write

GOOD = document(ticks(gaussian(1), count=17))
TEXT = json.dumps(document(ticks(gaussian(1), count=2))).encode()


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_document(write(tmp_path / "a.json", GOOD)) == GOOD


def refused(path: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_document(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (TEXT[:-1], "cut off"),
        (TEXT[: len(TEXT) // 2], "cut off"),
        (b"[]", "is no trace"),
        (b"{}", "is no trace"),
        (b'{"format": "other"}', "is no trace"),
        (b'{"format": "overclock-trace"}', "version None; this overclock reads 1"),
        (b'{"format": "overclock-trace", "version": 3}', "version 3; this overclock reads 1"),
        (b'{"format": "overclock-trace", "version": true}', "version True"),
        (b'{"format": "overclock-trace", "version": 1}', "created is missing"),
        (TEXT.replace(b'"rows": 1', b'"rows": NaN'), "NaN is no number"),
        (TEXT.replace(b'"rows": 1', b'"rows": 1e999'), r"ticks\[0\].rows is inf"),
        (TEXT.replace(b'"rows": 1', b'"rows": ' + b"9" * 5000), "not JSON"),
        (TEXT.replace(b'"name": "tiny"', b'"name": "\\ud800"'), "half a character"),
    ],
)
def test_what_is_no_trace(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    refused(path, said)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "cannot be read: No such file")
    refused(tmp_path, "cannot be read: Is a directory")
    with pytest.raises(InputError, match="null"):
        read_document("a\0b")


def deep(levels: int) -> Document:
    tree: Document = {"name": "leaf", "seconds": 0.0, "children": []}
    for _ in range(levels):
        tree = {"name": "node", "seconds": 0.0, "children": [tree]}
    return tree


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("kind",), "other", "kind is 'other'"),
        (("wall_s",), -1, "wall_s is -1, not 0 or more"),
        (("model", "layers"), 1.5, "model.layers is 1.5, not a whole number"),
        (("model", "exact"), 1, "exact is 1, not true or false"),
        (("limits", "levels"), {}, "levels is {}, not a list"),
        (("ticks",), {}, "ticks is {}, not a list"),
        (("ticks", 3, "ns"), [1, 2], r"ticks\[3\].ns has 2 numbers for 15 instructions"),
        (("ticks", 3, "ns"), [1] * 14 + [True], "a list of whole numbers"),
        (("ticks", 3, "ns"), [1] * 14 + [-1], "numbers that can be"),
        (("ticks", 3, "busy_ns"), [1] * 16, "busy_ns has 16 numbers"),
        (("ticks", 3, "contexts"), [1, 2], "lengths and contexts differ"),
        (("ticks", 3, "execute"), "fast", "execute is 'fast', not a number"),
        (("ticks", 3), [], r"ticks\[3\] is \[\], not an object"),
        (("instructions", 2, "layer"), -1, "layer is -1"),
        (("instructions", 2, "text"), None, "text is None, not text"),
        (("requests", 0, "ended"), None, "ended is None"),
        (("tree",), deep(50), "more than 32 levels"),
        (("tree",), None, "tree is None"),
    ],
)
def test_damage_is_named(
    path: tuple[str | int, ...], value: object, said: str, tmp_path: Path
) -> None:
    damaged: Any = copy.deepcopy(GOOD)
    place = damaged
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    refused(write(tmp_path / "a.json", damaged), said)


def places(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Ways to every value inside."""
    items: Iterable[tuple[str | int, object]] = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    return [at, *(way for key, each in items for way in places(each, (*at, key)))]


SMALL = document(ticks(gaussian(1), count=17))
WAYS = places(SMALL)[1:]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, 5e-324, 1e300, (1 << 63) - 1])
    | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
    ),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.sampled_from(WAYS), ANYTHING | st.just(...)), min_size=1, max_size=4))
def test_whatever_is_changed_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[tuple[str | int, ...], object]]
) -> None:
    changed: Any = copy.deepcopy(SMALL)
    for way, value in changes:
        place = changed
        try:
            for step in way[:-1]:
                place = place[step]
            if value is ...:
                del place[way[-1]]
            else:
                place[way[-1]] = value
        except (TypeError, KeyError, IndexError):
            continue
    path = write(tmp_path_factory.getbasetemp() / "changed.json", changed)
    with suppress(InputError):
        found = read_document(path)
        compare(found, SMALL)
        compare(SMALL, found)


@given(st.data())
def test_whatever_happens_to_the_bytes_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = bytearray(TEXT[: data.draw(st.integers(0, len(TEXT)))])
    if text:
        for _ in range(data.draw(st.integers(0, 4))):
            text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "bytes.json"
    path.write_bytes(text)
    with suppress(InputError):
        read_document(path)
