"""The book of kernels: what this computer's kernels were measured to take, kept in the cache."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from math import isfinite
from pathlib import Path

import numpy as np

from overclock.errors import InputError
from overclock.files import write_atomic
from overclock.predict.fit import (
    Fit,
    RowFit,
    RowTable,
    Sample,
    SumFit,
    fit_rows,
    fit_sums,
    non_negative,
)
from overclock.predict.kernels import RowWork, Work
from overclock.predict.measure import Overhead
from overclock.settings import cache_directory

VERSION = 4

ESSENTIAL_PARTS = {"matmul": 3, "gated_matmul": 3, "attend": 2}
"""Parts of a key that decide how fast a kernel is: for products the opcode and the formats of
weights and activations, for attention that of KV, for all others the opcode."""

SUM_PARTS = {"attend": 10, "attend_all": 5}
ROW_PARTS = {"matmul": 3, "gated_matmul": 3}
OVERHEAD_PARTS = 3
"""Weights of a formula by its opcode, two if it is not here; and of the overhead."""

STAND_INS = ("rmsnorm", "layernorm")
"""Opcodes that stand in for others that go over rows once."""

FEWEST = 3
"""Samples that a formula must rest on."""


@dataclass(frozen=True, slots=True)
class Book:
    """Formulas of kernels by their key, for one number of threads.

    overhead: seconds of a run beside its instructions: of 1, of a token and of a sequence
    errors: kind of program → relative errors, from low to high, of predictions for a program of
    that kind that no formula was made from
    """

    threads: int
    fits: Mapping[str, Fit]
    overhead: tuple[float, ...]
    errors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def fit(self, work: Work) -> Fit:
        """The formula of an instruction's kernel, or of the nearest one that was measured.

        The nearest has the most parts of the key in common, from the opcode on: another activation
        costs much the same. Where not even the opcode was measured, a norm stands in for what goes
        over rows once, as both wait for the same memory. Raises InputError if there is none.
        """
        found = self.fits.get(work.key)
        if found is not None:
            return found
        names = [work.key]
        if isinstance(work, RowWork) and not work.weight_bytes:
            names += STAND_INS
        nearest = next(filter(None, map(self._nearest, names)), None)
        if nearest is None:
            raise InputError(
                f"no kernel like {work.key} has been measured with {self.threads} threads here, so "
                "this program's time cannot be predicted"
            )
        return self.fits[nearest]

    def _nearest(self, name: str) -> str | None:
        """The key with the most parts of `name` in common; None if none has its opcode."""
        nearest = max(self.fits, key=lambda key: _common(key, name), default="")
        return nearest if _common(nearest, name) else None

    def covers(self, work: Work) -> bool:
        """Whether a kernel was measured, or another one that differs by what matters little."""
        opcode = work.key.partition("/")[0]
        parts = ESSENTIAL_PARTS.get(opcode, 1)
        return any(_common(key, work.key) >= parts for key in self.fits)

    def merged(self, other: Book) -> Book:
        """Both books' formulas; those of `other` win."""
        return Book(
            self.threads,
            {**self.fits, **other.fits},
            other.overhead or self.overhead,
            {**self.errors, **other.errors},
        )


def _common(key: str, other: str) -> int:
    """How many parts two keys have in common, from the first on."""
    pairs = zip(key.split("/"), other.split("/"), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def make(
    near: Iterable[Sample], far: Iterable[Sample], overheads: Iterable[Overhead], threads: int
) -> Book:
    """A book from measurements: with weights that come from nearby, and from far."""
    fits: dict[str, Fit] = {}
    from_far = _by_key(far)
    for key, found in _by_key(near).items():
        work = found[0].work
        if not isinstance(work, RowWork):
            fits[key] = fit_sums(found, threads)
            continue
        has_weights = work.weight_bytes and key in from_far
        other = fit_rows(from_far[key], threads) if has_weights else None
        fits[key] = RowFit(fit_rows(found, threads), other)
    return Book(threads, fits, _overhead(list(overheads)))


def _by_key(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Samples of each kernel; those that say nothing, or are too few, are left out."""
    found: dict[str, list[Sample]] = {}
    for each in filter(_counts, samples):
        found.setdefault(each.work.key, []).append(each)
    return {key: these for key, these in found.items() if len(these) >= FEWEST}


def _counts(sample: Sample) -> bool:
    """Whether a sample says something: the kernel ran, and longer than the timer's step."""
    has_rows = not isinstance(sample.work, RowWork) or sample.load.rows(sample.work.rows) > 0
    return has_rows and sample.seconds > 0.0


def _overhead(found: list[Overhead]) -> tuple[float, ...]:
    if not found:
        return ()
    features = [[1.0, each.load.tokens, len(each.load.lengths)] for each in found]
    weights = non_negative(np.array(features), np.array([each.seconds for each in found]))
    return tuple(weights.tolist())


# -- on disk ----------------------------------------------------------------------------------


DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What reading a cache that anybody may have written can raise."""


def cache_file() -> Path:
    """Where books are kept."""
    return cache_directory() / "kernels.json"


def load(identity: str, threads: int) -> Book | None:
    """The book of a computer (see `limits.Limits.identity`), if there is one, undamaged."""
    try:
        record = json.loads(cache_file().read_text(encoding="utf-8"))
        if record["version"] != VERSION or record["identity"] != identity:
            return None
        found = record["books"].get(str(threads))
        return None if found is None else _parse(threads, found)
    except DAMAGE:
        return None


def save(identity: str, book: Book) -> None:
    """Keep a book beside those of other thread counts; a cache that cannot be written is no error.

    What is in the cache of another computer or version is thrown away.
    """
    record: dict[str, object] = {"version": VERSION, "identity": identity, "books": {}}
    books: dict[str, object] = {}
    try:
        old = json.loads(cache_file().read_text(encoding="utf-8"))
        if (old["version"], old["identity"]) == (VERSION, identity):
            books = dict(old["books"])
    except DAMAGE:
        books = {}
    books[str(book.threads)] = _record(book)
    record["books"] = books
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cache_file(), json.dumps(record).encode())
    except OSError:
        return


def _record(book: Book) -> dict[str, object]:
    return {
        "fits": {key: _fit_record(fit) for key, fit in book.fits.items()},
        "overhead": book.overhead,
        "errors": book.errors,
    }


def _fit_record(fit: Fit) -> dict[str, object]:
    if isinstance(fit, SumFit):
        return {"weights": fit.weights}
    return {
        "near": asdict(fit.near),
        "far": None if fit.far is None else asdict(fit.far),
    }


def _parse(threads: int, record: Mapping[str, object]) -> Book:
    """A book from JSON. Raises one of `DAMAGE` if it is damaged."""
    fits, errors = record["fits"], record["errors"]
    if not isinstance(fits, dict) or not isinstance(errors, dict):
        raise TypeError("a JSON object is wanted")
    overhead = _amounts(record["overhead"])
    if len(overhead) not in (0, OVERHEAD_PARTS):
        raise ValueError("an overhead has three parts, if any")
    return Book(
        threads,
        {str(key): _parse_fit(key, fit) for key, fit in fits.items()},
        overhead,
        {str(key): _floats(values) for key, values in errors.items()},
    )


def _parse_fit(key: str, record: Mapping[str, object]) -> Fit:
    opcode = key.partition("/")[0]
    if opcode in SUM_PARTS:
        return SumFit(_weights(record["weights"], SUM_PARTS[opcode]))
    parts, far = ROW_PARTS.get(opcode, 2), record["far"]
    near = _parse_table(record["near"], parts)
    return RowFit(near, None if far is None else _parse_table(far, parts))


def _parse_table(record: object, parts: int) -> RowTable:
    if not isinstance(record, dict) or not isinstance(record["weights"], list):
        raise TypeError("a JSON object is wanted")
    rows, weights = [int(each) for each in _floats(record["rows"])], record["weights"]
    if not rows or len(rows) != len(weights) or rows[0] < 1 or rows != sorted(set(rows)):
        raise ValueError("rows do not rise")
    (moved,) = _amounts([record["moved"]])
    return RowTable(tuple(rows), tuple(_weights(each, parts) for each in weights), moved)


def _weights(values: object, count: int) -> tuple[float, ...]:
    weights = _amounts(values)
    if len(weights) != count:
        raise ValueError("a formula has another number of parts")
    return weights


def _amounts(values: object) -> tuple[float, ...]:
    """Numbers of 0 or more."""
    amounts = _floats(values)
    if min(amounts, default=0.0) < 0:
        raise ValueError("nothing takes less than no time")
    return amounts


def _floats(values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise TypeError("a JSON array is wanted")
    numbers = tuple(float(value) for value in values)
    if not all(map(isfinite, numbers)):
        raise ValueError("not a number")
    return numbers
