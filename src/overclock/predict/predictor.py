"""Predicts how long a program takes on any batch, from a book of kernels."""

from __future__ import annotations

from collections import Counter
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from overclock.errors import InputError
from overclock.machine.limits import Limits
from overclock.predict.book import Book
from overclock.predict.fit import Conditions, RowFit, SumFit
from overclock.predict.kernels import AttendWork, Lengths, RowWork, Work, run_bytes, works
from overclock.predict.sheet import Scale
from overclock.program.program import KvFormat, Program

MEMORY_STEP = 0.05
"""Bytes that a run goes through are told apart in steps of so much of their logarithm."""


class Predictor:
    """The time of one program's runs on one computer.

    ::

        predictor = Predictor(program, "f16", book, limits)
        predictor.seconds(Lengths.of([1] * 8, [200] * 8, 8))
    """

    def __init__(
        self,
        program: Program,
        kv: KvFormat,
        book: Book,
        limits: Limits,
        output: str | None = None,
        scale: Scale | None = None,
    ) -> None:
        """Take a program, and the book and limits of the computer that was measured.

        output: what runs ask for; None for the program's first
        scale: how many times as fast the computer in question is; None for this one

        Raises InputError if a kernel of the program is not in the book.
        """
        self._program = program
        self._book = book
        self._limits = limits
        self._scale = scale or Scale()
        self._works = works(program, kv)
        self._needed = program.needed_for(output or next(iter(program.outputs)))
        counts = Counter(self._works[index] for index in self._needed)
        self._rows: list[tuple[RowWork, RowFit, int]] = []
        self._sums: list[tuple[Work, SumFit, int]] = []
        for work, count in counts.items():
            fit = book.fit(work)
            if isinstance(work, RowWork) and isinstance(fit, RowFit):
                self._rows.append((work, fit, count))
            elif isinstance(fit, SumFit):
                self._sums.append((work, fit, count))
            else:
                raise InputError(f"the book of kernels is damaged at {work.key}; calibrate again")
        empty = Lengths.of([1], [0], 1)
        matrices = {i: w for i, w in enumerate(self._works) if i in set(self._needed)}
        no_kv = {i: w for i, w in matrices.items() if not isinstance(w, AttendWork)}
        self._weight_bytes = run_bytes(program, empty, no_kv)
        self._row_seconds: dict[tuple[int, int, int, int], float] = {}
        self._row_times: dict[int, list[list[float]]] = {}

    @property
    def threads(self) -> int:
        """Threads that it predicts for."""
        return self._book.threads

    @property
    def keeps_kv(self) -> bool:
        """Whether its program is that of a decoder."""
        return bool(self._program.caches)

    def seconds(self, load: Lengths) -> float:
        """A whole run of the machine."""
        moved = self._moved(load)
        at = self._conditions(moved)
        total = self._rowwise(load, moved)
        for work, fit, count in self._sums:
            total += count * fit.seconds(work, load, at)
        return total + self.overhead(load)

    def instructions(self, load: Lengths) -> NDArray[np.float64]:
        """Seconds of each instruction, ``f64[instructions]``; 0 of those that do not run.

        With `overhead` they are `seconds`.
        """
        moved = self._moved(load)
        at = self._conditions(moved)
        found: dict[Work, float] = {}
        for (work, fit, _), times in zip(self._rows, self._times(_step(moved)), strict=True):
            found[work] = fit.between(times, load.rows(work.rows))
        for other, sums, _ in self._sums:
            found[other] = sums.seconds(other, load, at)
        seconds = np.zeros(len(self._works))
        for index in self._needed:
            seconds[index] = found[self._works[index]]
        return seconds

    def overhead(self, load: Lengths) -> float:
        """What a run takes beside its instructions."""
        if not self._book.overhead:
            return 0.0
        each, token, sequence = self._book.overhead
        return each + token * load.tokens + sequence * len(load.lengths)

    def error(self, share: float = 0.9) -> float:
        """The relative error that so many of the checked predictions stayed within."""
        found = [abs(error) for errors in self._book.errors.values() for error in errors]
        return float(np.quantile(found, share)) if found else 0.25

    def _moved(self, load: Lengths) -> float:
        """Bytes that a run goes through."""
        kv = sum(
            count * work.kv_bytes(load)
            for work, _, count in self._sums
            if isinstance(work, AttendWork)
        )
        return self._weight_bytes + kv

    def _conditions(self, moved: float) -> Conditions:
        return Conditions(self.threads, moved, self._bandwidth, self._scale)

    def _bandwidth(self, moved: float) -> float:
        return 1e9 * self._limits.bandwidth(max(moved, 1.0), self.threads)

    def _rowwise(self, load: Lengths, moved: float) -> float:
        """Seconds of all that works row by row; remembered, as batches come again."""
        step = _step(moved)
        key = (load.tokens, load.selected, len(load.lengths), step)
        known = self._row_seconds.get(key)
        if known is None:
            known = self._row_seconds[key] = sum(
                count * fit.between(times, load.rows(work.rows))
                for (work, fit, count), times in zip(self._rows, self._times(step), strict=True)
            )
        return known

    def _times(self, step: int) -> list[list[float]]:
        """The times of all that works row by row at the numbers of rows that were measured."""
        known = self._row_times.get(step)
        if known is None:
            at = self._conditions(exp(step * MEMORY_STEP))
            known = self._row_times[step] = [fit.times(work, at) for work, fit, _ in self._rows]
        return known


def _step(moved: float) -> int:
    return round(log(max(moved, 1.0)) / MEMORY_STEP)
