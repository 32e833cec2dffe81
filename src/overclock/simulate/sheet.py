"""The data sheet of another computer, as `overclock doctor --json` writes it."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path

from overclock.errors import InputError
from overclock.machine.limits import QUANTITIES, Quantity
from overclock.machine.virtual import Roofline


def read_sheet(path: Path, threads: int | None = None) -> Roofline:
    """What the computer of a sheet can do with `threads`, or with the most it was measured with.

    Raises InputError, which names the file, if it cannot be read or is no sheet.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    limits = [1e9 * _limit(path, record, name, threads) for name in QUANTITIES]
    return Roofline(limits[0], limits[1], limits[2])


def _limit(path: Path, record: object, quantity: Quantity, threads: int | None) -> float:
    """The figure for `threads`, or for the nearest lower count that is there."""
    figures = _figures(path, record, quantity)
    counts = [count for count in figures if threads is None or count <= threads]
    if not counts:
        raise InputError(f"{path} has no {quantity} for {threads} threads; it has {list(figures)}")
    return figures[max(counts)]


def _figures(path: Path, record: object, quantity: Quantity) -> dict[int, float]:
    given = record.get(quantity) if isinstance(record, dict) else None
    try:
        figures = {int(count): float(value) for count, value in dict(given or {}).items()}
    except (TypeError, ValueError):
        figures = {}
    if not figures or not all(isfinite(value) and value > 0 for value in figures.values()):
        raise InputError(
            f"{path} is no data sheet: {quantity} must give numbers above 0 by thread count; "
            "write one with `overclock doctor --json`"
        )
    return figures
