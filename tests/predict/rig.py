"""Books of kernels that nobody measured, and a calibration that takes no time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from pathlib import Path

import pytest

from overclock.machine import limits as machine_limits
from overclock.machine.limits import Figure, Limits
from overclock.predict import calibrate, measure, probes
from overclock.predict.book import ROW_PARTS, SUM_PARTS, Book
from overclock.predict.fit import Fit, RowFit, RowTable, SumFit
from overclock.predict.kernels import Lengths, RowWork, Work, works
from overclock.predict.probes import Sizes
from overclock.program.program import KvFormat, Program

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 512, 1024)

FAR_ROWS = ROWS[:6]

GB = 1e9

NEAR, FAR = float(64 << 20), float(448 << 20)
"""Bytes that runs go through whose weights come from nearby, and from far."""


@dataclass(frozen=True)
class Curve:
    """Bytes/s of `near` up to `NEAR` bytes, `far` from `FAR` on, by logarithms between.

    further: of very many bytes
    """

    near: float
    far: float
    further: float | None = None

    def __call__(self, moved: float) -> float:
        if moved > 100 * FAR and self.further is not None:
            return self.further
        share = (log(moved) - log(NEAR)) / (log(FAR) - log(NEAR))
        share = min(1.0, max(0.0, share))
        return float(self.near ** (1 - share) * self.far**share)


FREE = Curve(1e15, 1e15)
"""Memory whose bytes cost nothing."""


def limits(gbs: float = 20.0, cores: int = 2) -> Limits:
    """A computer whose caches are four times as fast as its memory."""
    figures = {count: Figure(gbs, gbs, gbs) for count in range(1, cores + 1)}
    near = {1 << 16: 4 * gbs, 1 << 22: 3 * gbs, 1 << 26: 1.2 * gbs, 1 << 30: gbs}
    curve = {size: Figure(each, each, each) for size, each in near.items()}
    return Limits(
        cpu="a computer",
        cores=cores,
        instruction_sets=("avx2",),
        measured="2026-01-01T00:00:00+00:00",
        version="0",
        timer_ns=1.0,
        read_bandwidth_gbs=figures,
        f32_gflops={count: Figure(100.0 * count, 1, 1) for count in figures},
        int8_gops={count: Figure(400.0 * count, 1, 1) for count in figures},
        read_curve=dict.fromkeys(figures, curve),
    )


def fit_of(work: Work) -> Fit:
    """A formula with round numbers."""
    opcode = work.key.partition("/")[0]
    if opcode in SUM_PARTS:
        return SumFit(
            (2e-6, 1e-6, 1e-7, 1e-11, 1e-11, 1e-11, 1e-11, 1e-11, 1.1, 0.5)[: SUM_PARTS[opcode]]
        )
    parts = ROW_PARTS.get(opcode, 2)
    near = _table(ROWS, parts, 1.0, 96e6)
    has_weights = isinstance(work, RowWork) and work.weight_bytes
    return RowFit(near, _table(FAR_ROWS, parts, 3.0, 448e6) if has_weights else None)


def _table(rows: tuple[int, ...], parts: int, times: float, moved: float) -> RowTable:
    weights = tuple(
        (1e-6, *(times * 1e-12 * count for _ in range(parts - 2)), times * 5e-12 * count)
        for count in rows
    )
    return RowTable(rows, weights, moved)


def book(found: Iterable[Work], threads: int = 1) -> Book:
    """A book in which all these kernels are."""
    fits = {work.key: fit_of(work) for work in found}
    return Book(threads, fits, (1e-5, 1e-8, 1e-7), {"a kind": (-0.1, 0.0, 0.05)})


def book_of(program: Program, kv: KvFormat = "f16", threads: int = 1) -> Book:
    """A book with the kernels of a program."""
    return book(works(program, kv), threads)


def generation(streams: int, context: int) -> Lengths:
    """One token of each stream."""
    return Lengths.of([1] * streams, [context] * streams, streams)


def tiny(monkeypatch: pytest.MonkeyPatch, cache: Path, cores: int = 2) -> None:
    """Let calibration measure hardly anything, and let the computer be known."""
    monkeypatch.setenv("OVERCLOCK_CACHE", str(cache))
    known = limits(cores=cores)
    monkeypatch.setattr(machine_limits, "load_or_measure", lambda threads, **_: known)
    monkeypatch.setattr(machine_limits, "usable_cores", lambda: cores)
    monkeypatch.setattr(measure, "LEAST", 1)
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    for owner, name in ((calibrate, "NEAR_BYTES"), (probes, "FAR_BYTES"), (probes, "CHECK_BYTES")):
        monkeypatch.setattr(owner, name, 1)
    monkeypatch.setattr(probes, "CONTEXT", 512)
    sizes = (Sizes(256, 8, 2, 32, 256, 300), Sizes(256, 4, 4, 64, 512, 600))
    monkeypatch.setattr(probes, "DECODERS", (*sizes, Sizes(512, 8, 4, 64, 768, 500)))
    monkeypatch.setattr(probes, "CHECK_DECODER", sizes[0])
    monkeypatch.setattr(probes, "ENCODERS", (*sizes, Sizes(512, 8, 8, 64, 768, 500)))
    monkeypatch.setattr(probes, "CHECK_ENCODER", sizes[1])
    monkeypatch.setattr(calibrate, "row_shapes", lambda family: _rows(family))
    monkeypatch.setattr(calibrate, "far_shapes", lambda family: _rows(family))
    monkeypatch.setattr(calibrate, "attention_shapes", lambda family: _attention(family))
    monkeypatch.setattr(calibrate, "check_shapes", lambda family: _rows(family)[:2])


def _rows(family: str) -> list[measure.Shape]:
    if family == "bert":
        return [([rows], [0], 0) for rows in (4, 16, 64)]
    return [([1] * rows, [40] * rows, rows) for rows in (1, 4, 16)]


def _attention(family: str) -> list[measure.Shape]:
    if family == "bert":
        return [([length] * 2, [0, 0], 0) for length in (8, 32)]
    return [([1, 1], [30, 300], 2), ([40], [0], 1)]
