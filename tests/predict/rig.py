"""Books of kernels that nobody measured, and a calibration that takes no time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from overclock.machine import limits as machine_limits
from overclock.machine.limits import Figure, Limits
from overclock.predict import calibrate, measure, probes
from overclock.predict.book import ROW_PARTS, SUM_PARTS, Book
from overclock.predict.fit import NEAR_BYTES, Fit, RowFit, RowTable, SumFit
from overclock.predict.kernels import Lengths, Work, works
from overclock.predict.probes import Sizes
from overclock.program.program import KvFormat, Program

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 512, 1024)

GB = 1e9


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
    weights = tuple(
        (1e-6, *(1e-12 * rows for _ in range(parts - 2)), 5e-12 * rows) for rows in ROWS
    )
    near = RowTable(ROWS, weights, NEAR_BYTES)
    if not parts - 2:
        return RowFit(near)
    slower = tuple((first, *(1.5 * each for each in rest)) for first, *rest in weights[:5])
    return RowFit(near, RowTable(ROWS[:5], slower, 8 * NEAR_BYTES))


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
    for name in ("FAR_BYTES", "CHECK_BYTES"):
        monkeypatch.setattr(probes, name, 1)
    monkeypatch.setattr(calibrate, "NEAR_BYTES", 1)
    monkeypatch.setattr(probes, "CONTEXT", 512)
    sizes = (Sizes(256, 8, 2, 32, 256, 300), Sizes(256, 4, 4, 64, 512, 600))
    monkeypatch.setattr(probes, "DECODERS", (*sizes, Sizes(512, 8, 4, 64, 768, 500)))
    monkeypatch.setattr(probes, "CHECK_DECODER", sizes[0])
    monkeypatch.setattr(probes, "ENCODERS", (*sizes, Sizes(512, 8, 8, 64, 768, 500)))
    monkeypatch.setattr(probes, "CHECK_ENCODER", sizes[1])
    monkeypatch.setattr(calibrate, "row_shapes", lambda family: _rows(family))
    monkeypatch.setattr(calibrate, "far_shapes", lambda family: _rows(family)[:2])
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
