"""Tries predicted changes on this computer: each one in turns with the model as it is.

A changed model has weights of the right format and size, and not their values: speed does not
depend on them. What a change does to the answers is another question.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from overclock.clock.request import Encode
from overclock.clock.settings import ClockSettings
from overclock.encoder import Encoder
from overclock.engine import LLM
from overclock.errors import InputError
from overclock.predict.stages import Stages
from overclock.predict.variants import hollow
from overclock.predict.whatif import Case
from overclock.program.program import PAGE_TOKENS
from overclock.reply import encoded
from overclock.trace.record import RequestRecord, TickRecord
from overclock.tracing import observing, watching

GENERATED = 24
"""Tokens of a measurement; the context asked about is the one in their middle."""

STAGES_CONTEXT = 32
"""Tokens of context while the stages are measured."""

ROUNDS = 3

ADMISSIONS = 7
"""Requests whose admission is measured."""

STAGES_ROUNDS = 4
"""Times that the stages are measured, with few streams and with more."""

SETTLED = 2
"""First ticks of all streams together that do not count."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What was measured of a case: medians of several rounds.

    speed: tokens/s (texts/s) of the case, low and high the lowest and highest round
    gain: the median of each round's speed over that of the base beside it
    memory: bytes of packed weights and of the KV pages that the streams filled
    """

    speed: float
    low: float
    high: float
    gain: float
    memory: int


class _Ticks:
    """An observer that keeps ticks without their details, which would cost time."""

    wants_detail = False

    def __init__(self) -> None:
        self.ticks: list[TickRecord] = []

    def tick(self, record: TickRecord) -> None:
        self.ticks.append(record)

    def request(self, record: RequestRecord) -> None:
        pass


def try_case(base: Case, case: Case, rounds: int = ROUNDS) -> Tried:
    """Measure `case` in turns with `base`: A B A B, so that a drift of the computer hits both.

    Raises InputError if this computer cannot run it.
    """
    if not case.can_run:
        raise InputError(f"{case.what}: this cannot be tried here")
    with opened(base) as first, opened(case) as second:
        speeds, gains = [], []
        for number in range(rounds + 1):
            before, after = measure(first, base), measure(second, case)
            if number:  # the first is the warm-up
                speeds.append(after)
                gains.append(after / before)
        memory = _memory(second, case)
    middle = statistics.median(speeds)
    return Tried(middle, min(speeds), max(speeds), statistics.median(gains), memory)


@contextmanager
def opened(case: Case) -> Iterator[LLM | Encoder]:
    """An engine that runs a case."""
    if case.model.config.family == "bert":
        weights: Literal["int8"] | None = "int8" if case.int8 else None
        with Encoder(hollow(case.model), case.threads, weights, case.exact) as encoder:
            yield encoder
        return
    # Room for one more than will run: whoever is let in leaves some pages to those who run.
    settings = ClockSettings(
        streams=case.streams + 1, stretch=None, share_prefixes=False, draft_tokens=0
    )
    room = min(case.model.config.context, case.context + GENERATED + 1)
    with LLM(
        hollow(case.model), case.threads, case.exact, case.kv, context=room, settings=settings
    ) as llm:
        yield llm


def measure(engine: LLM | Encoder, case: Case) -> float:
    """The speed of an engine under a case's load: tokens/s, or texts/s."""
    if isinstance(engine, Encoder):
        return case.streams / _text_seconds(engine, case)
    return case.streams / _tick_seconds(engine, case)


def stages_of(engine: LLM | Encoder) -> Stages:
    """What the clock's stages take around a run, by two measurements."""
    if isinstance(engine, Encoder):
        return _text_stages(engine)
    count = min(8, engine.settings.streams)
    few, many = (_around(engine, streams) for streams in (1, count))
    each = max(0.0, (many.seconds - few.seconds) / (count - 1)) if count > 1 else 0.0
    ratios = (*few.ratios, *many.ratios)
    return Stages(max(0.0, few.seconds - each), each, _admission(engine), ratios)


def _admission(llm: LLM) -> float:
    """Seconds that a request of one token takes longer than the machine's run for it."""
    found = []
    for number in range(ADMISSIONS):
        with watching(llm.clock, llm.driver) as recorder:
            llm.generate(np.array([1 + number]), 1, reuse_prefix=False)
        ticks = [tick for tick in recorder.ticks if tick.detail is not None]
        spent = sum(tick.seconds - tick.detail.counters.whole for tick in ticks if tick.detail)
        found.append(spent)
    return statistics.median(found)


def _tick_seconds(llm: LLM, case: Case) -> float:
    """The median time from one tick to the next while all streams generate."""
    found = _Ticks()
    with observing(llm.clock, llm.driver, found):
        _generate(llm, case.streams, case.context - GENERATED // 2)
    return _period(found.ticks, case.streams)


class _Around(NamedTuple):
    """Median seconds of a tick beside the machine's run; times of ticks by their median."""

    seconds: float
    ratios: tuple[float, ...]


def _around(llm: LLM, streams: int) -> _Around:
    beside: list[float] = []
    ratios: list[float] = []
    for _ in range(STAGES_ROUNDS):
        with watching(llm.clock, llm.driver) as recorder:
            _generate(llm, streams, STAGES_CONTEXT)
        runs = [
            tick.detail.counters.whole
            for tick in recorder.ticks
            if _is_plain(tick, streams) and tick.detail is not None
        ]
        gaps = _gaps(recorder.ticks, streams)
        middle = statistics.median(gaps)
        beside.append(middle - statistics.median(runs[SETTLED:]))
        ratios += [gap / middle for gap in gaps]
    return _Around(max(0.0, statistics.median(beside)), tuple(ratios))


def _period(ticks: Sequence[TickRecord], streams: int) -> float:
    return statistics.median(_gaps(ticks, streams))


def _gaps(ticks: Sequence[TickRecord], streams: int) -> list[float]:
    """Times from one tick to the next while all streams generate, without the first ones."""
    gaps = [
        after.started - tick.started
        for tick, after in pairwise(ticks)
        if _is_plain(tick, streams) and _is_plain(after, streams)
    ]
    if len(gaps) <= SETTLED:
        raise InputError("the streams never ran together: there is no room for all their KV pages")
    return gaps[SETTLED:]


def _is_plain(tick: TickRecord, streams: int) -> bool:
    return tick.rows == streams and not tick.prompt_tokens


def _generate(llm: LLM, streams: int, context: int) -> None:
    """Let streams generate after so many tokens, or nearly as many if there is no more room.

    They are handed in between two ticks, so that none is done before the last one begins.
    """
    vocabulary = llm.model.config.vocabulary
    context = max(1, min(context, llm.clock.context - GENERATED))
    with llm.driver.between_ticks():
        replies = [
            llm.submit(
                np.array([(13 + 101 * stream + 7919 * at) % vocabulary for at in range(context)]),
                GENERATED,
                stream=True,
                ignore_eos=True,
                speculation="off",
            )
            for stream in range(streams)
        ]
    for reply in replies:
        reply.result()


def _text_seconds(encoder: Encoder, case: Case) -> float:
    """Seconds of all ticks that the texts take."""
    found = _Ticks()
    ids = [1 + at % (encoder.model.config.vocabulary - 1) for at in range(case.context)]
    requests = [Encode(token_ids=ids, output="embedding")] * case.streams
    with observing(encoder.clock, encoder.driver, found):
        encoded(encoder.driver, requests)
    return found.ticks[-1].ended - found.ticks[0].started


def _text_stages(encoder: Encoder) -> Stages:
    with watching(encoder.clock, encoder.driver) as recorder:
        requests = [Encode(token_ids=[1] * 8, output="embedding")] * 16
        encoded(encoder.driver, requests)
    spent = sum(
        tick.seconds - tick.detail.counters.whole
        for tick in recorder.ticks
        if tick.detail is not None
    )
    return Stages(0.0, spent / 16)


def _memory(engine: LLM | Encoder, case: Case) -> int:
    weights = int(getattr(engine.machine, "weight_bytes", engine.model.weight_bytes))
    if isinstance(engine, Encoder):
        return weights
    tokens = case.context + GENERATED // 2
    pages = -(-tokens // PAGE_TOKENS) * case.streams
    return weights + pages * engine.machine.page_bytes


def base_case(
    engine: LLM | Encoder, threads: int, streams: int, context: int, prompt: int, *, int8: bool
) -> Case:
    """The model of an engine as it is, under a load."""
    is_encoder = isinstance(engine, Encoder)
    return Case(
        what="as it is",
        group="base",
        model=engine.model,
        kv=engine.kv_format if isinstance(engine, LLM) else "f16",
        threads=threads,
        streams=streams,
        context=context,
        prompt=0 if is_encoder else prompt,
        int8=int8,
        exact=engine.program.exact,
    )
