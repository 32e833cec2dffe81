"""The ledger: every prediction that was made, and what was measured afterwards.

A file of JSON lines, one a prediction, that is only ever appended to. Several processes may write
it at once; a line that cannot be read is told and left where it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from math import isfinite
from pathlib import Path

from overclock.errors import InputError
from overclock.settings import cache_directory

MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One figure that was said before it was measured.

    when: date and time, ISO 8601; overclock: the version that said it; cpu, threads, model: of what
    what: the change that is predicted, such as `weights Q8_0`; quantity: what of, with its unit
    predicted, and the interval `low` to `high` that was said with it
    measured: None if nobody has
    """

    when: str
    overclock: str
    cpu: str
    threads: int
    model: str
    what: str
    quantity: str
    predicted: float
    low: float
    high: float
    measured: float | None = None
    note: str = ""

    @property
    def error(self) -> float | None:
        """How far off it was, as a part of what was measured; above 0 if it was too high."""
        return self.predicted / self.measured - 1 if self.measured else None

    @property
    def is_inside(self) -> bool | None:
        """Whether what was measured is in the interval."""
        return None if self.measured is None else self.low <= self.measured <= self.high


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that is no prediction, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """What stands in a file, in its order."""

    predictions: tuple[Prediction, ...]
    damaged: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """How good the predictions of one name were.

    count: of all, of which `measured` can be judged
    error: the median of the errors without their sign; worst: the largest, with it
    inside: share of what was measured that lay in its interval
    """

    name: str
    count: int
    measured: int
    error: float | None
    worst: float | None
    inside: float | None


def default_path() -> Path:
    """The ledger of this user."""
    return cache_directory() / "ledger.jsonl"


def append(prediction: Prediction, path: Path | None = None) -> None:
    """Add a prediction at the end of the ledger, whole or not at all.

    Raises InputError if it has no sense, or the file cannot be written.
    """
    place = path or default_path()
    record = asdict(prediction)
    try:
        _prediction(record)
    except ValueError as error:
        raise InputError(f"this cannot go into a ledger: {error}") from error
    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(place, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            _append(file, line)
        finally:
            os.close(file)
    except OSError as error:
        raise InputError(
            f"{place} cannot be written: {error.strerror or error}; name another with --file"
        ) from error


def read(path: Path | None = None) -> Ledger:
    """All predictions of a ledger; one that is not there yet is empty.

    Raises InputError if the file cannot be read.
    """
    place = path or default_path()
    try:
        with place.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return Ledger((), ())
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{place} has more than {MOST_BYTES >> 20} MiB; it is no ledger")
    return _read(data)


def records(
    predictions: Iterable[Prediction], name: Callable[[Prediction], str]
) -> tuple[Record, ...]:
    """How good predictions were, by what `name` calls them; in the order of the first of each."""
    groups: dict[str, list[Prediction]] = {}
    for each in predictions:
        groups.setdefault(name(each), []).append(each)
    return tuple(_record(*group) for group in groups.items())


def _record(name: str, group: list[Prediction]) -> Record:
    errors = [each.error for each in group if each.error is not None]
    inside = [each.is_inside for each in group if each.is_inside is not None]
    return Record(
        name=name,
        count=len(group),
        measured=len(inside),
        error=statistics.median(map(abs, errors)) if errors else None,
        worst=max(errors, key=abs, default=None),
        inside=sum(inside) / len(inside) if inside else None,
    )


def _append(file: int, line: bytes) -> None:
    """Write a line behind what is there; whoever calls holds the lock."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":  # somebody died in the middle of theirs
        line = b"\n" + line
    written = 0
    try:
        written = os.write(file, line)
    finally:
        if written != len(line):
            os.ftruncate(file, size)
    if written != len(line):
        raise OSError("the disk is full")


def _read(data: bytes) -> Ledger:
    predictions: list[Prediction] = []
    damaged: list[Damage] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            predictions.append(_parse(line))
        except ValueError as error:
            damaged.append(Damage(number, str(error)))
    return Ledger(tuple(predictions), tuple(damaged))


def _parse(line: bytes) -> Prediction:
    """Raises ValueError if it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    return _prediction(record)


def _prediction(record: dict[str, object]) -> Prediction:
    """Fields that a later overclock may add are left out. Raises ValueError for what is wrong."""
    known = {name: _value(name, record) for name in TYPES}
    found = Prediction(**known)  # type: ignore[arg-type]
    if not found.low <= found.predicted <= found.high:
        raise ValueError("predicted is not between low and high")
    return found


def _value(name: str, record: dict[str, object]) -> object:
    if name not in record:
        raise ValueError(f"{name} is missing")
    value = record[name]
    kind = TYPES[name]
    if kind == "str":
        return _text(name, value)
    if kind == "int":
        if type(value) is not int or not 0 < value < 1 << 31:
            raise ValueError(f"{name} is no number of threads")
        return value
    if value is None and "None" in kind:
        return None
    return _number(name, value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} holds half a character") from error
    if name == "when":
        datetime.fromisoformat(value)
    return value


def _number(name: str, value: object) -> float:
    if type(value) not in (int, float) or not isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"{name} is no number")
    return float(value)  # type: ignore[arg-type]


TYPES = {field.name: str(field.type) for field in fields(Prediction)}
