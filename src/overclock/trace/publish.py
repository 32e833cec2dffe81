"""Writes what a clock does on a board, so that others can watch it."""

from __future__ import annotations

import os
import time
from math import inf

import numpy as np

from overclock.errors import InputError
from overclock.machine.computer import resident_bytes
from overclock.machine.machine import Counters, Machine
from overclock.program.cost import Load, total
from overclock.program.isa import Op
from overclock.program.program import KvFormat, Program
from overclock.trace.board import (
    MOST_OPCODES,
    Board,
    Engine,
    Figures,
    find,
    namespace,
    process_start,
)
from overclock.trace.record import RequestRecord, TickRecord

WRITE_S = 0.1
"""Between two times that figures are written while there is something to do."""

DETAIL_S = 0.25
"""Between two looks at what is dearer to know: the machine's counters, and memory."""

ROWS = 64
"""Rows of a prompt over which the operations of one are averaged."""


class Publisher:
    """An observer of one clock; some microseconds a tick."""

    wants_detail = False

    def __init__(self, board: Board, engine: Engine, machine: Machine, program: Program) -> None:
        self._board = board
        self._machine = machine
        places = [engine.opcodes.index(each.op) for each in program.instructions]
        self._opcodes = np.array(places, np.intp)
        self._seconds = np.zeros(len(engine.opcodes))
        self._ticks = self._runs = self._rows = self._tokens = self._prompt_tokens = 0
        self._fetch = self._decode = self._execute = self._write_back = 0.0
        self._drafted = self._accepted = self._requests = self._pages_read = self._memory = 0
        self._is_counted = True  # nothing ran that the seconds do not have
        self._next_write = self._next_detail = -inf
        self._idle: TickRecord | None = None  # the last tick, if it left nothing to do

    def tick(self, record: TickRecord) -> None:
        """Add a tick; write now and then, and when there is nothing more to do."""
        self._add(record)
        now = record.ended
        self._idle = None if record.running + record.waiting else record
        if now < self._next_write and self._idle is None:
            return
        if now >= self._next_detail:
            self._next_detail = now + DETAIL_S
            self._look()
        self._next_write = now + WRITE_S
        self._write(record)

    def request(self, record: RequestRecord) -> None:
        """Count a request that has ended; the next tick writes it, or nobody else would."""
        self._requests += 1
        self._drafted += record.drafted
        self._accepted += record.accepted
        if self._idle is not None:
            self._write(self._idle)

    def close(self) -> None:
        """Take the board down."""
        self._board.close()

    def _add(self, record: TickRecord) -> None:
        self._ticks += 1
        self._fetch += record.fetch
        self._decode += record.decode
        self._execute += record.execute
        self._write_back += record.write_back
        self._tokens += record.tokens
        if not record.rows:
            return
        self._runs += 1
        self._rows += record.rows
        self._prompt_tokens += record.prompt_tokens
        self._pages_read += record.used_pages
        if record.detail is None:
            self._is_counted = False
        else:  # another observer has the machine's counters taken with every tick
            self._count(record.detail.counters)

    def _look(self) -> None:
        self._memory = resident_bytes()
        if not self._is_counted:
            self._is_counted = True
            self._count(self._machine.counters())

    def _count(self, counters: Counters) -> None:
        self._seconds += np.bincount(self._opcodes, counters.seconds, len(self._seconds))

    def _write(self, record: TickRecord) -> None:
        figures = Figures(
            ticks=self._ticks,
            fetch=self._fetch,
            decode=self._decode,
            execute=self._execute,
            write_back=self._write_back,
            runs=self._runs,
            rows=self._rows,
            tokens=self._tokens,
            prompt_tokens=self._prompt_tokens,
            drafted=self._drafted,
            accepted=self._accepted,
            requests=self._requests,
            running=record.running,
            waiting=record.waiting,
            used_pages=record.used_pages,
            cached_pages=record.cached_pages,
            pages_read=self._pages_read,
            memory=self._memory,
            tick_s=record.seconds,
            at=record.ended,
            seconds=tuple(self._seconds.tolist()),
        )
        self._board.write(figures)


def publisher(
    machine: Machine, program: Program, model: str, *, pages: int, kv: KvFormat | None
) -> Publisher:
    """A publisher with a new board. Raises InputError if there is no place for one.

    model: its name; pages: KV pages there are, of the format `kv`; None for no KV
    """
    find()  # those of engines that were killed do not pile up
    engine = _engine(machine, program, model, pages, kv)
    return Publisher(Board(engine), engine, machine, program)


def _engine(
    machine: Machine, program: Program, model: str, pages: int, kv: KvFormat | None
) -> Engine:
    output = next(iter(program.outputs))
    one, many = (total(program, Load.prompt(rows), output=output) for rows in (1, 1 + ROWS))
    tier = getattr(machine, "tier", None)  # the native machine's own
    born = process_start("self")
    if born is None:
        raise InputError("the engine cannot show itself: this system has no /proc")
    return Engine(
        pid=os.getpid(),
        born=born,
        namespace=namespace(),
        opened=time.time(),
        model=model,
        kind="encoder" if kv is None else "llm",
        machine="native" if tier else "reference",
        tier=tier or "",
        kv=kv or "",
        threads=getattr(machine, "threads", 1),
        pages=pages,
        page_bytes=machine.page_bytes,
        weight_bytes=one.weight_bytes,
        row_operations=max(0, many.operations - one.operations) // ROWS,
        exact=program.exact,
        opcodes=_opcodes(program),
    )


def _opcodes(program: Program) -> tuple[Op, ...]:
    """Those that the program has, in the order of the instruction set."""
    there = {each.op for each in program.instructions}
    opcodes = tuple(op for op in Op if op in there)
    assert len(opcodes) <= MOST_OPCODES, "a board has no room for so many opcodes"
    return opcodes
