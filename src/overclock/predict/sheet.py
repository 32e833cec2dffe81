"""Predictions for a computer that one does not have, from its data sheet.

What was measured here is split into time at the memory's limit and the rest; each part is scaled by
the two computers' limits. So a kernel keeps the share of the limits that it reaches here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from overclock.errors import InputError
from overclock.machine.limits import QUANTITIES, Limits, Quantity
from overclock.machine.virtual import Roofline

MOST_BYTES = 1 << 20
"""Of a file with a data sheet."""

LEAST, MOST = 1e-6, 1e9
"""GB/s, GFLOP/s and GOP/s that a computer may have."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a computer can do with so many threads: GB/s, GFLOP/s and GOP/s."""

    name: str
    threads: int
    read_gbs: float
    f32_gflops: float
    int8_gops: float

    def __post_init__(self) -> None:
        for limit in (self.read_gbs, self.f32_gflops, self.int8_gops):
            if not LEAST <= limit <= MOST:
                raise InputError(
                    f"a limit of {limit:g} is not possible; a data sheet needs numbers of "
                    f"{LEAST:g} to {MOST:g}"
                )

    def roofline(self) -> Roofline:
        """The pace of a machine that always reaches a limit."""
        return Roofline(1e9 * self.read_gbs, 1e9 * self.f32_gflops, 1e9 * self.int8_gops)


@dataclass(frozen=True, slots=True)
class Scale:
    """How many times as fast another computer is.

    memory: at reading; f32, int8: at arithmetic of f32 and of int8 products
    """

    memory: float = 1.0
    f32: float = 1.0
    int8: float = 1.0


def sheet_of(limits: Limits, threads: int) -> Sheet:
    """The sheet of a computer that was measured. Raises InputError if a limit is not known."""
    return Sheet(limits.cpu, threads, *(limits.limit(name, threads) for name in QUANTITIES))


def scale_to(there: Sheet, here: Sheet) -> Scale:
    """How another computer with its threads compares with this one."""
    return Scale(
        there.read_gbs / here.read_gbs,
        there.f32_gflops / here.f32_gflops,
        there.int8_gops / here.int8_gops,
    )


def read_sheet(path: Path, threads: int | None = None) -> Sheet:
    """The sheet in a file that `overclock doctor --json` wrote, or that has the same fields.

    threads: take the limits of so many, or of the nearest lower number that is there; None for
        the most. Raises InputError, which names the file, if it cannot be read or is no sheet.
    """
    record = _json(path)
    found = [_limit(path, record, name, threads) for name in QUANTITIES]
    count = max(count for count, _ in found)
    name = "".join(sign for sign in str(record.get("cpu", path.stem)) if sign.isprintable())
    return Sheet(name[:80], count, *(limit for _, limit in found))


def _json(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise InputError(f"{path} is no data sheet: it has more than {MOST_BYTES >> 20} MiB")
        record = json.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is no data sheet; write one with `overclock doctor --json`")
    return record


def _limit(
    path: Path, record: dict[str, object], quantity: Quantity, threads: int | None
) -> tuple[int, float]:
    figures = _figures(path, record, quantity)
    counts = [count for count in figures if threads is None or count <= threads]
    if not counts:
        raise InputError(f"{path} has no {quantity} for {threads} threads; it has {list(figures)}")
    return max(counts), figures[max(counts)]


def _figures(path: Path, record: dict[str, object], quantity: Quantity) -> dict[int, float]:
    given = record.get(quantity)
    try:
        pairs = given.items() if isinstance(given, dict) else ()
        figures = {int(count): float(value) for count, value in pairs}
    except (TypeError, ValueError, OverflowError):
        figures = {}
    is_possible = all(LEAST <= value <= MOST for value in figures.values())
    if not figures or not is_possible or min(figures) < 1:
        raise InputError(
            f"{path} is no data sheet: {quantity} must give numbers of {LEAST:g} to {MOST:g} by "
            "thread count; write one with `overclock doctor --json`"
        )
    return figures
