"""What the lines of a batch file say, and what is wrong with those that are broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.batch import lines
from overclock.batch.lines import Line, describe, read_lines
from tests.batch.files import line, write
from tests.openai.bodies import json_values


def read(path: Path, data: bytes) -> list[Line]:
    file = path / "in.jsonl"
    file.write_bytes(data)
    return list(read_lines(file))


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    data = b"\n".join([b"", json.dumps(line("a")).encode(), b"  ", json.dumps(line("b")).encode()])
    found = read(tmp_path, data)
    assert [(each.number, each.custom_id, each.error) for each in found] == [
        (2, "a", None),
        (4, "b", None),
    ]
    assert (found[0].url, found[0].body) == (line("a")["url"], line("a")["body"])


def test_marks_of_an_editor(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(line(id)).encode() for id in "ab")
    assert [(each.custom_id, each.error) for each in read(tmp_path, data)] == [
        ("a", None),
        ("b", None),
    ]


@pytest.mark.parametrize(
    ("data", "custom_id", "words"),
    [
        (b"nonsense", None, "no JSON"),
        (b'{"custom_id": "a"', None, "no JSON"),
        (b"\xff\xfe", None, "no JSON"),
        (b'{"custom_id": "a", "body": NaN}', None, "NaN"),
        (b"[" * 100_000, None, "nested"),
        (b"1" * 5000, None, "no JSON"),
        (b"[]", None, "must be an object"),
        (b"{}", None, "custom_id"),
        (b'{"custom_id": ""}', None, "custom_id"),
        (b'{"custom_id": 7}', None, "custom_id"),
        (b'{"custom_id": "a"}', "a", "method"),
        (b'{"custom_id": "a", "method": "GET"}', "a", "method"),
        (b'{"custom_id": "a", "method": "POST", "urL": ""}', "a", "urL"),
    ],
)
def test_a_broken_line_does_not_hurt_the_next(
    tmp_path: Path, data: bytes, custom_id: str | None, words: str
) -> None:
    broken, good = read(tmp_path, data + b"\n" + json.dumps(line("b")).encode())
    assert broken.error is not None
    assert (broken.number, broken.custom_id) == (1, custom_id)
    assert words in str(broken.error)
    assert (good.number, good.custom_id, good.error) == (2, "b", None)


def test_a_custom_id_may_come_once(tmp_path: Path) -> None:
    first, second = list(read_lines(write(tmp_path / "in", [line("a"), line("a")])))
    assert first.error is None
    assert second.error is not None
    assert (second.number, second.custom_id, second.error.code) == (2, "a", "duplicate_custom_id")


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps(line("b")).encode()
    monkeypatch.setattr(lines, "MOST_BYTES", len(good))
    monkeypatch.setattr(lines, "_BLOCK", 7)
    found = read(tmp_path, b"x" * 5000 + b"\n" + good + b"\n" + b"y" * 5000)
    assert [each.number for each in found] == [1, 2, 3]
    assert [each.error and each.error.code for each in found] == [
        "line_too_long",
        None,
        "line_too_long",
    ]


@given(st.lists(st.binary(max_size=30) | json_values.map(lambda value: json.dumps(value).encode())))
def test_any_bytes_give_a_line_each(
    tmp_path_factory: pytest.TempPathFactory, data: list[bytes]
) -> None:
    text = b"\n".join(data)
    found = read(tmp_path_factory.mktemp("any"), text)
    plain = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert [each.number for each in found] == [
        number for number, each in enumerate(plain, 1) if each.strip()
    ]


def test_what_tells_files_apart(tmp_path: Path) -> None:
    file = tmp_path / "in"
    told = set()
    for data, count in ((b"", 0), (b"a", 1), (b"a\n", 1), (b"b\n", 1), (b"a\nb", 2)):
        file.write_bytes(data)
        assert describe(file).lines == count
        told.add(describe(file))
    assert len(told) == 5
