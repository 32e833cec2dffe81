"""Reads a trace that was written to a file; whatever is not one gets a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from overclock.errors import InputError

FORMAT = "overclock-trace"
VERSION = 1

Document = dict[str, Any]
"""A trace as JSON has it."""

MOST_BYTES = 2 << 30
MOST_INSTRUCTIONS = 1 << 16
MOST_TICKS = 1 << 22
MOST = float(1 << 63)
"""No number of a trace is so far from 0."""

MOST_DEPTH = 32
"""Levels of the tree."""

Check = Callable[[object, str], None]


class _BadError(Exception):
    """What is wrong, and where."""


def read_document(path: str | Path) -> Document:
    """The trace in a file, with every field of the right type and every array of the right length.

    Raises InputError if it cannot be read, is no trace, of another version, incomplete or damaged.
    """
    text = _text(Path(path))
    try:
        document = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(_no_json(path, text, error)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"{path} is no trace; `overclock trace` writes one")
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise InputError(
            f"{path} is a trace of version {_short(version)}; this overclock reads {VERSION}: take "
            "the overclock that wrote it, or trace again"
        )
    try:
        _document(document)
    except _BadError as error:
        raise InputError(f"{path} is damaged: {error}; trace again") from error
    return document


def _text(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}") from error
    if len(text) > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES >> 30} GiB; trace fewer ticks")
    return text


def _no_json(path: str | Path, text: bytes, error: Exception) -> str:
    if text.lstrip().startswith(b"{") and not text.rstrip().endswith(b"}"):
        return f"{path} is cut off in the middle; copy it again, or trace again"
    return (
        f"{path} is no trace: it is not JSON ({_short(str(error))}); `overclock trace` writes one"
    )


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _short(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


# What values are


def _be(is_so: bool, where: str, what: str, value: object) -> None:
    if not is_so:
        raise _BadError(f"{where} is {_short(value)}, not {what}")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -MOST < value < MOST


def _number(value: object, where: str) -> None:
    _be(_is_number(value), where, "a number", value)


def _amount(value: object, where: str) -> None:
    _number(value, where)
    _be(value >= 0, where, "0 or more", value)  # type: ignore[operator]


def _count(value: object, where: str) -> None:
    _be(type(value) is int and 0 <= value < 1 << 63, where, "a whole number, 0 or more", value)


def _words(value: object, where: str) -> None:
    _be(isinstance(value, str), where, "text", value)
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        raise _BadError(f"{where} holds half a character") from error


def _flag(value: object, where: str) -> None:
    _be(isinstance(value, bool), where, "true or false", value)


def _or_null(check: Check) -> Check:
    return lambda value, where: None if value is None else check(value, where)


def _counts(value: object, where: str) -> None:
    """A list of whole numbers."""
    _be(isinstance(value, list), where, "a list", value)
    assert isinstance(value, list)
    _be(set(map(type, value)) <= {int}, where, "a list of whole numbers", value)
    is_bounded = not value or (min(value) >= 0 and max(value) < 1 << 63)
    _be(is_bounded, where, "a list of numbers that can be", value)


def _object(fields: Mapping[str, Check]) -> Check:
    """An object that has at least these fields."""

    def check(value: object, where: str) -> None:
        _be(isinstance(value, dict), where, "an object", value)
        assert isinstance(value, dict)
        for name, each in fields.items():
            if name not in value:
                raise _BadError(f"{where}.{name} is missing")
            each(value[name], f"{where}.{name}")

    return check


def _list(item: Check, most: int) -> Check:
    def check(value: object, where: str) -> None:
        _be(isinstance(value, list), where, "a list", value)
        assert isinstance(value, list)
        if len(value) > most:
            raise _BadError(f"{where} has {len(value):,} entries, more than {most:,}")
        for place, each in enumerate(value):
            item(each, f"{where}[{place}]")

    return check


def _all(check: Check, *names: str) -> dict[str, Check]:
    return dict.fromkeys(names, check)


MODEL = _object(
    _all(_words, "name", "fingerprint")
    | _all(_count, "context", "vocabulary", "layers", "weight_bytes")
    | {"exact": _flag}
)
MACHINE = _object(
    {"name": _words, "threads": _count, "cpu": _words, "cores": _count}
    | _all(_or_null(_words), "tier", "kv")
)
LEVEL = _object({"name": _words, "bytes": _count, "gbs": _amount})
LIMITS = _object(
    {"threads": _count, "levels": _list(LEVEL, 64), "measured": _words}
    | _all(_or_null(_amount), "read_gbs", "f32_gflops", "int8_gops")
)
INSTRUCTION = _object(
    {"opcode": _words, "text": _words, "layer": _or_null(_count), "seconds": _amount}
    | _all(_count, "index", "runs")
    | _all(_amount, "operations", "weight_bytes", "activation_bytes", "kv_bytes")
    | _all(_or_null(_amount), "busy_s", "attainable_s", "share")
    | _all(_or_null(_words), "bound", "reason")
)
TICK = _object(
    {"start": _number}
    | _all(_amount, "fetch", "decode", "execute", "write_back")
    | _all(_or_null(_amount), "choose", "text", "prepare", "turn", "finish")
    | _all(_count, "rows", "prompt_tokens", "drafts", "tokens", "running", "waiting")
    | _all(_count, "cached_pages", "used_pages", "memory")
    | _all(_counts, "lengths", "contexts", "ns")
    | {"busy_ns": _or_null(_counts)}
)
REQUEST = _object(
    _all(_number, "arrived", "ended")
    | {"tokenize": _amount, "finish": _words}
    | _all(_or_null(_number), "admitted", "first_token", "last_token")
    | _all(_count, "prompt", "cached", "tokens", "drafted", "accepted")
)
WHOLE = _object(
    _all(_words, "created", "overclock")
    | {"kind": _words, "what": _object({}), "model": MODEL, "machine": MACHINE}
    | {"limits": _or_null(LIMITS), "load": _or_null(_object({}))}
    | _all(_amount, "wall_s", "accounted_s", "accounted_share")
    | {"instructions": _list(INSTRUCTION, MOST_INSTRUCTIONS), "ticks": _list(TICK, MOST_TICKS)}
    | {"requests": _list(REQUEST, MOST_TICKS)}
)


def _document(document: Document) -> None:
    WHOLE(document, "it")
    kind = document["kind"]
    _be(kind in ("run", "streams", "encoder"), "it.kind", "run, streams or encoder", kind)
    _tree(document.get("tree"))
    count = len(document["instructions"])
    for place, tick in enumerate(document["ticks"]):
        _lengths(tick, count, f"it.ticks[{place}]")


def _lengths(tick: Document, instructions: int, where: str) -> None:
    """Arrays that must have as many entries as each other."""
    if len(tick["lengths"]) != len(tick["contexts"]):
        raise _BadError(f"{where}.lengths and contexts differ in their number")
    for name in ("ns", "busy_ns"):
        found = len(tick[name] or ())
        if found not in (0, instructions):
            raise _BadError(f"{where}.{name} has {found} numbers for {instructions} instructions")


def _tree(tree: object) -> None:
    node = _object({"name": _words, "seconds": _amount, "children": _list(_object({}), 1 << 20)})
    rest = [(tree, 0)]
    while rest:
        each, depth = rest.pop()
        node(each, "it.tree")
        assert isinstance(each, dict)
        if depth > MOST_DEPTH:
            raise _BadError(f"it.tree is more than {MOST_DEPTH} levels deep")
        rest += [(child, depth + 1) for child in each["children"]]
