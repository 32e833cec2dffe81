"""What can be asked of a running engine and timed, the same for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common import Summary, interleave, per_second, summarize
from engines import Worker

FIRST_TEXT = "The capital of France is"

SHORT_CALL_TOKENS = 1024
"""Calls of fewer tokens than this are repeated until they have as many."""

Measure = Callable[[Worker, int], float]
"""Seconds (or bytes) of one repetition on a running engine."""


@dataclass(frozen=True)
class Task:
    """Something to measure. `work` tokens or sentences a call; 0: the value itself is told."""

    name: str
    work: int
    unit: str
    measure: Measure
    scale: float = 1.0

    def on(self, worker: Worker) -> Callable[[int], float]:
        """The measurement on one engine."""
        return lambda repetition: self.measure(worker, repetition)

    def summary(self, values: list[float]) -> Summary:
        """In the task's unit: work a second, or the value itself."""
        if self.work:
            return per_second(self.work, values)
        return summarize([value * self.scale for value in values])


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
