"""Records of ticks and requests with round numbers, and a program that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from overclock.machine.limits import Figure, Limits
from overclock.machine.machine import Counters
from overclock.model.formats import Format
from overclock.program.compiler import compile
from overclock.program.program import Program
from overclock.trace.record import RequestRecord, TickDetail, TickRecord
from overclock.trace.recorder import Recorder
from tests.program.models import decoder

PROGRAM: Program = compile(decoder(format=Format.Q8_0))
COUNT = len(PROGRAM.instructions)

LIMITS = Limits(
    cpu="a computer",
    cores=2,
    instruction_sets=(),
    measured="2026-01-01T00:00:00+00:00",
    version="0",
    timer_ns=1.0,
    read_bandwidth_gbs={1: Figure(10.0, 9.0, 11.0), 2: Figure(20.0, 19.0, 21.0)},
    f32_gflops={1: Figure(100.0, 99.0, 101.0), 2: Figure(200.0, 199.0, 201.0)},
    int8_gops={1: Figure(400.0, 399.0, 401.0), 2: Figure(800.0, 799.0, 801.0)},
)


def counters(
    seconds: NDArray[np.float64] | None = None,
    busy: NDArray[np.float64] | None = None,
    runs: int = 1,
) -> Counters:
    """A run of the program whose pieces add up; each instruction takes 1 ms if nothing is said."""
    spent = np.full(COUNT, 1e-3) if seconds is None else seconds
    return Counters(
        spent, runs, float(spent.sum()) + 6e-3, 1e-3, 2e-3, 3e-3, call=0.5e-3, busy=busy
    )


def tick(
    started: float,
    found: Counters | None = None,
    *,
    lengths: Sequence[int] = (1,),
    contexts: Sequence[int] = (10,),
    running: int = 1,
) -> TickRecord:
    """A tick of 1 + 2 + (run + 1.5) + 4 ms; without counters nothing ran, in 7 ms."""
    record = TickRecord(
        started=started,
        fetch=1e-3,
        decode=2e-3,
        execute=0.0,
        write_back=4e-3,
        rows=sum(lengths),
        prompt_tokens=0,
        drafts=0,
        tokens=len(lengths),
        running=running,
        waiting=0,
        cached_pages=3,
        used_pages=2,
    )
    if found is None:
        return record
    detail = TickDetail(
        starts=np.cumsum([0, *lengths], dtype=np.int32),
        contexts=np.array(contexts, np.int32),
        adapters=None,
        selected=len(lengths),
        output="logits",
        counters=found,
        choose=1.5e-3,
        text=1e-3,
        memory=1 << 20,
    )
    return replace(record, execute=found.whole + 1.5e-3, detail=detail)


def request(arrived: float, tokenize: float = 0.0, ended: float = 100.0) -> RequestRecord:
    """A request that runs at once."""
    return RequestRecord(
        arrived=arrived,
        tokenize=tokenize,
        admitted=arrived,
        first_token=arrived + 1,
        last_token=arrived + 2,
        ended=ended,
        prompt=5,
        cached=0,
        tokens=2,
        drafted=0,
        accepted=0,
        finish="length",
    )


def recorder(
    ticks: Sequence[TickRecord],
    requests: Sequence[RequestRecord] = (),
    began: float = 0.0,
    ended: float = 10.0,
) -> Recorder:
    """What a recorder has that was told of these between two moments."""
    times = iter((began, began, ended))
    found = Recorder(lambda: next(times))
    found.start()
    for each in ticks:
        found.tick(each)
    for one in requests:
        found.request(one)
    found.stop()
    return found
