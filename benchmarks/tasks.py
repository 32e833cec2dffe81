"""What can be asked of a running engine and timed, the same for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import quantiles

from common import Summary, interleave, per_second, summarize
from engines import Worker

FIRST_TEXT = "The capital of France is"

SHORT_CALL_TOKENS = 1024
"""Calls of fewer tokens than this are repeated until they have as many."""

Measure = Callable[[Worker, int], float]
"""Seconds (or bytes) of one repetition on a running engine."""


@dataclass(frozen=True)
class Line:
    """A line of the table. `work` tokens or sentences a call; 0: the value itself is told."""

    name: str
    work: int
    unit: str
    scale: float = field(default=1.0, kw_only=True)

    def summary(self, values: list[float]) -> Summary:
        """In the task's unit: work a second, or the value itself."""
        if self.work:
            return per_second(self.work, values)
        return summarize([value * self.scale for value in values])


@dataclass(frozen=True)
class Task(Line):
    """Something to measure that gives one line."""

    measure: Measure

    def on(self, worker: Worker) -> Callable[[int], float]:
        """The measurement on one engine."""
        return lambda repetition: self.measure(worker, repetition)


@dataclass(frozen=True)
class Scenario:
    """Something to measure that gives several lines, with a value for each in their order."""

    name: str
    lines: tuple[Line, ...]
    measure: Callable[[Worker, int], tuple[float, ...]]

    def on(self, worker: Worker) -> Callable[[int], tuple[float, ...]]:
        """The measurement on one engine."""
        return lambda repetition: self.measure(worker, repetition)


def take_turns(
    task: Task, workers: Mapping[str, Worker], repetitions: int
) -> dict[str, list[float]]:
    """The task on all of these engines, A B A B."""
    return interleave({name: task.on(w) for name, w in workers.items()}, repetitions)


def token_ids(count: int, seed: str) -> list[int]:
    """Ordinary ids, inside every vocabulary in use, the same for all engines."""
    chosen = random.Random(seed)
    return [chosen.randrange(1000, 29000) for _ in range(count)]


def prompt(tokens: int, name: str | None = None) -> Task:
    """Tokens a second of a prompt that no cache has seen."""

    def measure(worker: Worker, repetition: int) -> float:
        ids = token_ids(tokens, f"prompt {tokens} {repetition}")
        return worker.seconds(task="prompt", ids=ids)

    return Task(name or f"prompt {tokens}", tokens, "tokens/s", measure)


def generation(name: str, before: int, tokens: int) -> Task:
    """Tokens a second of one stream that starts with `before` tokens of context."""

    def measure(worker: Worker, repetition: int) -> float:
        ids = token_ids(before, f"generation {before} {repetition}")
        return worker.seconds(task="generate", ids=ids, tokens=tokens)

    return Task(name, tokens, "tokens/s", measure)


def embedding(sentences: int, tokens: int) -> Task:
    """Sentences a second in batches of one length, the same call after call.

    A single short sentence takes a few milliseconds, so it is timed many times over.
    """
    calls = max(1, SHORT_CALL_TOKENS // (sentences * tokens))

    def measure(worker: Worker, repetition: int) -> float:
        seeds = [f"embed {tokens} {repetition} {index}" for index in range(sentences)]
        ids = [token_ids(tokens, seed) for seed in seeds]
        return worker.seconds(task="embed", sentences=ids, calls=calls)

    return Task(f"embed {sentences}×{tokens}", sentences, "sentences/s", measure)


STREAM_PROMPT = 96
STREAM_TOKENS = 64


def streams(count: int) -> Task:
    """Tokens a second of `count` streams together, each with a prompt of its own.

    Counted for every engine alike, from the times at which tokens came: from the moment when the
    last stream has its first token until the last stream has its last, the tokens of all streams
    in that time. Prompts are not in it. All have one length, so that engines that only know
    rectangular batches neither pad nor wait.
    """

    def measure(worker: Worker, repetition: int) -> float:
        seeds = [f"streams {count} {repetition} {index}" for index in range(count)]
        prompts = [token_ids(STREAM_PROMPT, seed) for seed in seeds]
        times = worker.times(task="streams", prompts=prompts, tokens=STREAM_TOKENS + 1)
        begin = max(each[0] for each in times)
        end = max(each[-1] for each in times)
        counted = sum(time > begin for each in times for time in each)
        return (end - begin) * count * STREAM_TOKENS / counted

    return Task(f"streams {count}", count * STREAM_TOKENS, "tokens/s", measure)


def shared_prefix(shared: int = 1000, own: int = 24) -> Scenario:
    """Seconds to the first token of two requests, one after the other, that begin alike."""

    def measure(worker: Worker, repetition: int) -> tuple[float, ...]:
        prefix = token_ids(shared, f"shared {repetition}")
        ids, again = (prefix + token_ids(own, f"own {repetition} {n}") for n in range(2))
        answer = worker.ask(task="shared_prefix", ids=ids, again=again)
        first, second = answer["first"], answer["second"]
        assert isinstance(first, float)
        assert isinstance(second, float)
        return first, second, second / first

    name = "shared prefix"
    lines = (
        Line(f"{name}, first", 0, "ms", scale=1e3),
        Line(f"{name}, second", 0, "ms", scale=1e3),
        Line(f"{name}, second ÷ first", 0, "share"),
    )
    return Scenario(name, lines, measure)


def long_prompt(running: int = 4, after: int = 64, tokens: int = 512, long: int = 4096) -> Scenario:
    """What a long prompt does to streams that are running, and what they do to it.

    A gap is the time between two tokens of one stream. Undisturbed are the gaps before the prompt
    arrives, when all streams have begun; disturbed are those that overlap the time from its arrival
    to its first token.
    """

    def measure(worker: Worker, repetition: int) -> tuple[float, ...]:
        prompts = [token_ids(STREAM_PROMPT, f"running {repetition} {n}") for n in range(running)]
        ids = token_ids(long, f"long {repetition}")
        request = {"prompts": prompts, "tokens": tokens, "after": after, "ids": ids}
        answer = worker.ask(task="long_prompt", **request)
        times, asked, told = answer["times"], answer["asked"], answer["told"]
        assert isinstance(times, list)
        assert isinstance(asked, float)
        assert isinstance(told, float)
        begun = max(each[0] for each in times)
        quiet = [[time for time in each if begun <= time <= asked] for each in times]
        before = percentiles(gaps(quiet, begun, asked))
        during = percentiles(gaps(times, asked, told))
        return (*before, *during, during[1] / before[0], told - asked)

    name = "long prompt"
    lines = (
        Line(f"{name}, p50 gap undisturbed", 0, "ms", scale=1e3),
        Line(f"{name}, p99 gap undisturbed", 0, "ms", scale=1e3),
        Line(f"{name}, p50 gap", 0, "ms", scale=1e3),
        Line(f"{name}, p99 gap", 0, "ms", scale=1e3),
        Line(f"{name}, p99 gap ÷ p50 undisturbed", 0, "times"),
        Line(f"{name}, its first token", 0, "s"),
    )
    return Scenario(name, lines, measure)


def gaps(times: Sequence[Sequence[float]], begin: float, end: float) -> list[float]:
    """Seconds between tokens of each stream, where that time overlaps begin … end."""
    pairs = [pair for each in times for pair in pairwise(each)]
    return [late - early for early, late in pairs if late > begin and early < end]


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th, of at least two values."""
    hundred = quantiles(values, n=100, method="inclusive")
    return hundred[49], hundred[98]


def start(worker: Worker, _: int) -> float:
    """Seconds from the start of the process to its first token."""
    return worker.start_seconds


def memory(worker: Worker, repetition: int) -> float:
    """The most bytes resident in a process that has run 512 tokens and written 64."""
    ids = token_ids(512, f"memory {repetition}")
    worker.ask(task="generate", ids=ids, tokens=64)
    peak = worker.ask(task="memory")["peak_bytes"]
    assert isinstance(peak, int)
    return float(peak)
