"""The lines of a batch file: what each asks for, or what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

from overclock.openai.errors import ApiError
from overclock.openai.fields import Fields, shown

MOST_BYTES = 64 << 20
"""Of one line; a longer one is broken."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """A line as far as it can be told what it is. number: from 1 on, as editors count

    custom_id: None if the line does not say; error: what is wrong with it, if it is broken
    """

    number: int
    custom_id: str | None
    url: object = None
    body: object = None
    error: ApiError | None = None


class InputFile(NamedTuple):
    """What tells one input file from another. lines: how many line ends it has, or one more."""

    bytes: int
    lines: int
    blake2b: str


def describe(path: Path) -> InputFile:
    """Read a file once, whole."""
    digest, size, ends, last = blake2b(digest_size=16), 0, 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            ends += block.count(b"\n")
            last = block[-1:]
    return InputFile(size, ends + (last != b"\n"), digest.hexdigest())


def read_lines(path: Path) -> Iterator[Line]:
    """The lines one after the other, without the empty ones. A custom_id may come once."""
    seen: set[str] = set()
    with path.open("rb") as file:
        for number, data in enumerate(_raw_lines(file), 1):
            if data is None or data.strip():
                yield _line(number, data, seen)


def _raw_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Line after line; None for one that is too long."""
    first = True
    while data := file.readline(MOST_BYTES + 1):
        if first:
            data = data.removeprefix(b"\xef\xbb\xbf")  # some editors mark UTF-8 so
            first = False
        if len(data) <= MOST_BYTES or data.endswith(b"\n"):
            yield data
            continue
        while data and not data.endswith(b"\n"):
            data = file.readline(_BLOCK)
        yield None


def _line(number: int, data: bytes | None, seen: set[str]) -> Line:
    custom_id = None
    try:
        value = _json(data)
        custom_id = _custom_id(value)
        return _request(number, Fields(value, "line"), custom_id, seen)
    except ApiError as error:
        return Line(number, custom_id, error=error)


def _json(data: bytes | None) -> object:
    if data is None:
        raise ApiError(f"the line is longer than {MOST_BYTES >> 20} MiB", code="line_too_long")
    try:
        return json.loads(data.decode(), parse_constant=_no_constant)
    except RecursionError as error:
        raise ApiError("the line is nested too deeply", code="invalid_json_line") from error
    except ValueError as error:
        raise ApiError(f"the line is no JSON: {error}", code="invalid_json_line") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _custom_id(value: object) -> str | None:
    """The line's custom_id if it has one, whatever else may be wrong with it."""
    custom_id = value.get("custom_id") if isinstance(value, dict) else None
    return custom_id if isinstance(custom_id, str) and custom_id else None


def _request(number: int, fields: Fields, custom_id: str | None, seen: set[str]) -> Line:
    wanted = fields.take("custom_id")
    if custom_id is None:
        raise fields.wrong("custom_id", wanted, "text and not empty")
    if custom_id in seen:
        raise ApiError(
            f"the custom_id {shown(custom_id)} was there before; give each line its own",
            param="custom_id",
            code="duplicate_custom_id",
        )
    seen.add(custom_id)
    method, url, body = (fields.take(name) for name in ("method", "url", "body"))
    if method != "POST":
        raise fields.wrong("method", method, '"POST"')
    fields.done()
    return Line(number, custom_id, url, body)
