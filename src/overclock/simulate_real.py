"""A simulated load for real: what the engine makes of it, held against what was predicted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from queue import Empty, SimpleQueue
from time import perf_counter

import numpy as np

from overclock.clock.completion import Completion, Piece
from overclock.clock.roster import Event
from overclock.engine import LLM
from overclock.errors import OverloadError
from overclock.program.program import KvFormat
from overclock.simulate.measure import Sample
from overclock.simulate.run import RETRY_S, Progress, Result, result_of
from overclock.simulate.station import Log, Prompts, Served, Setup, fit
from overclock.simulate.tempo import Tempo
from overclock.simulate.workload import Arrival, Source, Workload
from overclock.trace.record import RequestRecord, TickRecord

PERCENTS = (50, 95)

WARM_UP = 4
"""Requests that run before anything is measured, so that the clock learns."""

TOUCHED_BYTES = 2 << 30
"""KV pages that are written before anything is measured. A server that has run for a while has had
all its pages; in the first minutes every new one costs the system's work to find memory for it."""

PAGES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Comparison:
    """A quantity as it was predicted and as it was measured."""

    name: str
    unit: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Of the prediction, as a part of what was measured."""
        return (self.predicted - self.measured) / self.measured if self.measured else inf


def setup_of(llm: LLM, tempo: Tempo, kv: KvFormat) -> Setup:
    """What an open model's load is simulated on."""
    return Setup(
        program=llm.program,
        tempo=tempo,
        pages=llm.kv.pages,
        context=llm.context,
        settings=llm.settings,
        kv=kv,
    )


def measure(llm: LLM, workload: Workload, progress: Progress | None = None) -> Result:
    """Let a load come to an open model, in real time, and wait until all is served.

    Each request gets tokens of its own and the whole of its answer, without speculation.
    """
    run = _Run(llm, workload)
    run.warm_up()
    with run.watched():
        return run.result(run.drive(workload.source(), progress or (lambda done, total: None)))


def compare(predicted: Result, measured: Result) -> list[Comparison]:
    """What the two say of throughput, first tokens and gaps."""
    found = [
        Comparison("throughput", "requests/s", predicted.throughput, measured.throughput),
        Comparison(
            "tokens of answers", "tokens/s", predicted.tokens_per_second, measured.tokens_per_second
        ),
    ]
    found += _percentiles("first token", "s", 1.0, predicted.first, measured.first)
    found += _percentiles("gap", "ms", 1e3, predicted.gap, measured.gap)
    return found


def _percentiles(
    name: str, unit: str, scale: float, predicted: Sample, measured: Sample
) -> list[Comparison]:
    pairs = zip(PERCENTS, predicted.percentiles(PERCENTS), measured.percentiles(PERCENTS))
    return [
        Comparison(f"{name}, {percent} %", unit, scale * ours, scale * theirs)
        for percent, ours, theirs in pairs
    ]


@dataclass(slots=True)
class _Asked:
    """A request on its way, and when its tokens came."""

    arrival: Arrival
    ends: SimpleQueue[_Asked]
    times: list[float] = field(default_factory=list)
    completion: Completion | None = None
    ended: float = 0.0

    def deliver(self, event: Event) -> None:
        """Note an event, in the thread that ticks."""
        now = perf_counter()
        assert isinstance(event.content, Piece)
        if event.content.token_ids:
            self.times.append(now)
        if event.last:
            self.completion, self.ended = event.content.completion, now
            self.ends.put(self)


class _Run:
    """One measurement. Implements `trace.record.Observer`."""

    def __init__(self, llm: LLM, workload: Workload) -> None:
        self._llm = llm
        self._workload = workload
        self._prompts = Prompts(llm.program.vocabulary)
        self._log = Log(llm.kv.pages)
        self._ends: SimpleQueue[_Asked] = SimpleQueue()
        self._started = 0.0
        self._open = 0

    wants_detail = False

    def tick(self, record: TickRecord) -> None:
        """Note how long it took and how many pages are held."""
        self._log.busy += record.seconds
        self._log.ticks += 1
        self._log.pages.note(max(0.0, record.ended - self._started), record.used_pages)

    def request(self, record: RequestRecord) -> None:
        """Nothing: its events tell more."""

    def warm_up(self) -> None:
        """Run some of the requests, under other tokens than those that are measured."""
        requests = self._workload.requests()
        for _ in range(WARM_UP):
            self._submit(next(requests))
        while self._open:
            self._take_end(None)
        with self._llm.driver.between_ticks():
            self._llm.clock.pages.forget()
            self._touch()
        self._log = Log(self._llm.kv.pages)

    def _touch(self) -> None:
        """Write pages that nobody holds, which are all."""
        machine = self._llm.machine
        count = min(self._llm.kv.pages, TOUCHED_BYTES // machine.page_bytes)
        for first in range(0, count, PAGES_AT_ONCE):
            numbers = list(range(first, min(count, first + PAGES_AT_ONCE)))
            machine.write_pages(numbers, np.zeros((len(numbers), machine.page_bytes), np.uint8))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Be told of every tick inside."""
        driver, clock = self._llm.driver, self._llm.clock
        with driver.between_ticks():
            clock.watch(self)
        try:
            yield
        finally:
            with driver.between_ticks():
                clock.unwatch(self)

    def drive(self, source: Source, progress: Progress) -> list[Arrival]:
        """Submit each request when its time has come; all that came."""
        came: list[Arrival] = []
        before = self._llm.clock.roster.preempted
        self._started = perf_counter()
        while source.next_at < inf or self._open:
            if source.next_at <= self._now():
                arrival = source.take()
                came.append(arrival)
                if not self._submit(arrival):
                    source.ended(arrival, arrival.at + RETRY_S)
                progress(arrival.at, self._workload.duration)
            else:
                self._wait(source)
        self._log.preempted = self._llm.clock.roster.preempted - before
        return came

    def result(self, came: list[Arrival]) -> Result:
        """What is to be said of it."""
        return result_of(self._workload, [self._log], came)

    def _now(self) -> float:
        return perf_counter() - self._started

    def _wait(self, source: Source) -> None:
        """Until the next one is due or one has ended."""
        due = source.next_at
        asked = self._take_end(None if due == inf else max(0.0, due - self._now()))
        if asked is not None:
            source.ended(asked.arrival, asked.ended - self._started)

    def _take_end(self, seconds: float | None) -> _Asked | None:
        try:
            asked = self._ends.get(timeout=seconds)
        except Empty:
            return None
        self._open -= 1
        self._note(asked)
        return asked

    def _submit(self, arrival: Arrival) -> bool:
        llm = self._llm
        fitted = fit(arrival, llm.context)
        self._log.cut += fitted is not arrival
        request = llm.asking.request(
            self._prompts.ids(fitted),
            fitted.output,
            stream=True,
            ignore_eos=True,
            speculation="off",
            priority=arrival.priority,
            deadline_s=arrival.deadline_s,
        )
        asked = _Asked(arrival, self._ends)
        try:
            llm.driver.submit(request, asked.deliver)
        except OverloadError:
            self._log.refused.append(arrival)
            return False
        self._open += 1
        return True

    def _note(self, asked: _Asked) -> None:
        completion, arrival = asked.completion, asked.arrival
        assert completion is not None
        for earlier, later in zip(asked.times, asked.times[1:], strict=False):
            self._log.gap(later - earlier, 1)
        self._log.served.append(
            Served(
                arrival,
                admitted=arrival.at + completion.timing.queue_s,
                first=asked.times[0] - self._started if asked.times else None,
                ended=asked.ended - self._started,
                tokens=len(completion.token_ids),
                cached=completion.usage.cached_tokens,
                finish=completion.finish_reason,
            )
        )
