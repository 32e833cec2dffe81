"""How fast a model is when many ask at once: total speed, shared prefixes, a long prompt beside.

Every figure comes from the events of the clock, with the time at which each was handed out.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event as Flag
from time import perf_counter

from overclock.bench import Result, Work
from overclock.clock.completion import Piece
from overclock.clock.roster import Event
from overclock.clock.sequence import Ticket
from overclock.engine import LLM
from overclock.errors import InputError
from overclock.program.cost import generation_bytes
from overclock.program.program import KvFormat

PROMPT = 96
"""Tokens of the prompt of each stream."""

GENERATED = 64
"""Tokens that each stream generates."""

BESIDE = 4
"""Streams that generate while a long prompt comes."""

SETTLED = 32
"""Tokens of those streams before it comes: their undisturbed gaps."""

LONGEST = 4000
"""Tokens that they may generate at most while it runs."""


@dataclass(slots=True)
class _Stream:
    """When a request's tokens came."""

    times: list[float] = field(default_factory=list)
    done: Flag = field(default_factory=Flag)
    ticket: Ticket | None = None

    def deliver(self, event: Event) -> None:
        assert isinstance(event.content, Piece)
        self.times.append(perf_counter())
        if event.last:
            self.done.set()


def streams(llm: LLM, count: int, kv: KvFormat, repetitions: int) -> Result:
    """Tokens/s of `count` requests that generate together, prompts left out.

    Counted from the moment when all have their first token until the first of them ends.
    """
    _check_room(llm, PROMPT + GENERATED)
    speeds = [_together(llm, count, number) for number in range(repetitions + 1)][1:]
    context = PROMPT + GENERATED // 2
    weights = generation_bytes(llm.program, 0, kv)
    each = generation_bytes(llm.program, context, kv) - weights
    work = Work(weights / count + each, "read_bandwidth_gbs")
    return _result(
        f"{count} stream{'s' if count > 1 else ''}, generation", "tokens/s", speeds, work
    )


def shared_prefix(llm: LLM, size: int, repetitions: int) -> Iterator[Result]:
    """Seconds to the first token of a prompt, and of a second one that begins with `size` of it."""
    _check_room(llm, size + 24)
    first: list[float] = []
    second: list[float] = []
    for number in range(repetitions + 1):
        prefix = _ids(llm, size, 1000 + number)
        for seconds, salt in ((first, 1), (second, 2)):
            prompt = prefix + _ids(llm, 16, 5000 * salt + number)
            seconds.append(_first_token(llm, prompt))
    yield _result(f"first token, prompt of {size + 16}", "s", first[1:])
    yield _result(f"first token, {size} shared", "s", second[1:])


def long_prompt(llm: LLM, size: int, repetitions: int) -> Iterator[Result]:
    """Milliseconds between tokens of running streams, alone and while a long prompt comes."""
    _check_room(llm, size + 1)
    quiet: list[float] = []
    medians, highest, firsts = [], [], []
    for number in range(repetitions + 1):
        before, during, first = _beside(llm, size, number)
        if number:
            quiet += before
            medians.append(1e3 * statistics.median(during))
            highest.append(1e3 * _percentile(during, 0.99))
            firsts.append(first)
    yield _result("gap between tokens, undisturbed", "ms", [1e3 * gap for gap in quiet])
    yield _result(f"… while a prompt of {size} comes, median", "ms", medians)
    yield _result("… 99th percentile", "ms", highest)
    yield _result(f"first token of the prompt of {size}", "s", firsts)


def _together(llm: LLM, count: int, number: int) -> float:
    running = [_submit(llm, _ids(llm, PROMPT, 7 * number + stream)) for stream in range(count)]
    for stream in running:
        stream.done.wait()
    start = max(stream.times[0] for stream in running)
    stop = min(stream.times[-1] for stream in running)
    tokens = sum(sum(start < time <= stop for time in stream.times) for stream in running)
    return tokens / (stop - start)


def _beside(llm: LLM, size: int, number: int) -> tuple[list[float], list[float], float]:
    """Gaps before and while a prompt of `size` runs, and the seconds to its first token."""
    room = min(LONGEST, llm.context - PROMPT)
    running = [
        _submit(llm, _ids(llm, PROMPT, 31 * number + stream), room) for stream in range(BESIDE)
    ]
    while min(len(stream.times) for stream in running) < SETTLED:
        running[0].done.wait(0.005)
    started = perf_counter()
    long = _submit(llm, _ids(llm, size, 900 + number), 1)
    long.done.wait()
    ended = long.times[0]
    for stream in running:
        assert stream.ticket is not None
        llm.driver.cancel(stream.ticket)
    before, during = [], []
    for stream in running:
        stream.done.wait()
        for earlier, later in zip(stream.times[1:], stream.times[2:], strict=False):
            if later < started:
                before.append(later - earlier)
            elif earlier < ended:
                during.append(later - earlier)
    return before, during, ended - started


def _first_token(llm: LLM, prompt: list[int]) -> float:
    timing = llm.generate(prompt, 2, ignore_eos=True).timing
    assert timing.first_token_s is not None
    return timing.first_token_s


def _submit(llm: LLM, prompt: list[int], tokens: int = GENERATED) -> _Stream:
    request = llm.asking.request(prompt, tokens, stream=True, ignore_eos=True, speculation="off")
    stream = _Stream()
    stream.ticket = llm.driver.submit(request, stream.deliver)
    return stream


def _check_room(llm: LLM, tokens: int) -> None:
    if tokens > llm.context:
        raise InputError(f"{tokens} tokens do not fit the context of {llm.context}; ask for fewer")


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _result(name: str, unit: str, values: list[float], work: Work | None = None) -> Result:
    return Result(name, unit, statistics.median(values), min(values), max(values), work)


def _ids(llm: LLM, size: int, salt: int) -> list[int]:
    """Tokens from all over the vocabulary; another salt begins with another token."""
    vocabulary = llm.model.config.vocabulary
    return [(13 + 101 * salt + 7919 * place) % vocabulary for place in range(size)]
