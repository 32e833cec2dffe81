"""Which ticks of two traces may be compared, and which instructions are the same.

Ticks that ran prompts are held against ticks that ran prompts, and those that only generated
against their like. Of each kind the number of rows that both traces have most ticks of is taken; if
no number is there often enough, rows whose first four binary digits agree count as one (16 and 17,
32 to 35 …). And the tokens in the KV pages must be as many as the other trace has, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from overclock.trace.noise import BLOCK_TICKS, LEAST_BLOCKS
from overclock.trace.reading import Document

Kind = Literal["generation", "prompt"]

ENOUGH = BLOCK_TICKS * LEAST_BLOCKS
DIGITS = 4

Key = tuple[str, int | None, str, int]
"""Opcode, layer and text of an instruction, and how many like it came before."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Like ticks of one trace, in their order. Times are in ns.

    ns: ``f64[n, instructions]``; stages: ``f64[n, 4]``; contexts: ``f64[n]``, tokens in KV pages
    """

    ns: NDArray[np.float64]
    stages: NDArray[np.float64]
    contexts: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.contexts)


@dataclass(frozen=True, slots=True)
class Alike:
    """Ticks of two traces that may be compared; `rows` are the fewest and most rows of one."""

    kind: Kind
    rows: tuple[int, int]
    a: Ticks
    b: Ticks


def keys(document: Document) -> list[Key]:
    """What each instruction is known by."""
    seen: Counter[tuple[str, int | None, str]] = Counter()
    found: list[Key] = []
    for each in document["instructions"]:
        name = (each["opcode"], each["layer"], each["text"])
        found.append((*name, seen[name]))
        seen[name] += 1
    return found


def alike(a: Document, b: Document) -> list[Alike]:
    """Those of each kind, as far as both traces have any."""
    found = (_alike(kind, _of(kind, a), _of(kind, b)) for kind in ("generation", "prompt"))
    return [each for each in found if each is not None]


def _of(kind: str, document: Document) -> list[Document]:
    """The ticks of a kind in which instructions ran and were timed."""
    return [
        tick
        for tick in document["ticks"]
        if tick["ns"] and tick["rows"] and bool(tick["prompt_tokens"]) == (kind == "prompt")
    ]


def _alike(kind: Kind, a: list[Document], b: list[Document]) -> Alike | None:
    for likeness in (_same, _near):
        best = _most(a, b, likeness)
        if best is not None and best[1] >= ENOUGH:
            break
    else:
        best, likeness = _most(a, b, _same), _same
    if best is None:
        return None
    chosen = [[tick for tick in ticks if likeness(tick["rows"]) == best[0]] for ticks in (a, b)]
    rows = [tick["rows"] for ticks in chosen for tick in ticks]
    first, second = _overlap(*map(_arrays, chosen))
    return Alike(kind, (min(rows), max(rows)), first, second)


def _same(rows: int) -> int:
    return rows


def _near(rows: int) -> int:
    cut = max(0, rows.bit_length() - DIGITS)
    return rows >> cut << cut


def _most(
    a: list[Document], b: list[Document], likeness: Callable[[int], int]
) -> tuple[int, int] | None:
    """The likeness that both have most ticks of, and how many the one with fewer has."""
    first, second = (Counter(likeness(tick["rows"]) for tick in ticks) for ticks in (a, b))
    common = {key: min(first[key], second[key]) for key in first if key in second}
    return max(common.items(), key=lambda item: item[::-1], default=None)


def _arrays(ticks: list[Document]) -> Ticks:
    stages = ("fetch", "decode", "execute", "write_back")
    return Ticks(
        ns=np.array([tick["ns"] for tick in ticks], np.float64),
        stages=1e9 * np.array([[tick[name] for name in stages] for tick in ticks], np.float64),
        contexts=np.array([float(sum(tick["contexts"])) for tick in ticks]),
    )


def _overlap(a: Ticks, b: Ticks) -> tuple[Ticks, Ticks]:
    """Only the ticks whose contexts are within what the other trace has."""
    low = max(a.contexts.min(), b.contexts.min())
    high = min(a.contexts.max(), b.contexts.max())

    def within(ticks: Ticks) -> Ticks:
        kept = (ticks.contexts >= low) & (ticks.contexts <= high)
        return Ticks(ticks.ns[kept], ticks.stages[kept], ticks.contexts[kept])

    return within(a), within(b)
