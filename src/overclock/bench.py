"""The short benchmark: a model's speed on this computer, beside what the computer allows.

Medians of repetitions after a warm-up, with the lowest and highest beside them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from overclock.encoder import Encoder
from overclock.engine import LLM
from overclock.errors import MachineError, OverclockError
from overclock.machine import limits
from overclock.program.cost import Load, generation_bytes, total
from overclock.program.program import KvFormat

PROMPT = 512
CONTEXTS = (128, 1024, 2000)
GENERATED = 32
SHAPES = ((1, 16), (1, 128), (32, 128))


@dataclass(frozen=True, slots=True)
class Result:
    """One figure: median, lowest and highest, and its share of this computer's limit if known."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    share: float | None = None


def language_model(
    llm: LLM, threads: int | None, kv: KvFormat, repetitions: int
) -> Iterator[Result]:
    """Tokens/s of a prompt, and of generation at several contexts, as far as they fit."""
    ceilings = _Ceilings(threads)
    size = min(PROMPT, llm.context)
    yield _prompt(llm, size, repetitions, ceilings)
    for context in CONTEXTS:
        if context + GENERATED <= llm.context:
            yield _generation(llm, context, kv, repetitions, ceilings)


def encoder(model: Encoder, repetitions: int) -> Iterator[Result]:
    """Sentences/s for several batch sizes and lengths."""
    for count, length in SHAPES:
        yield _embedding(model, count, _text(model, length), repetitions)


def start_up(arguments: Sequence[str], repetitions: int) -> Result:
    """Seconds from the start of `overclock run` with `arguments` to the first of its output.

    Raises MachineError if the command fails.
    """
    seconds = _repeat(lambda: _first_byte(arguments), repetitions)
    return _result("start of the process to first token", "s", seconds)


class _Ceilings:
    """What the computer can do with a number of threads; None where it cannot be measured."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads or limits.usable_cores()
        self._limits: limits.Limits | None = None
        with suppress(ImportError, OverclockError):
            self._limits = limits.load_or_measure(self._threads)

    def of(self, quantity: limits.Quantity) -> float | None:
        """The limit in bytes/s or operations/s."""
        return self._limits.limit(quantity, self._threads) * 1e9 if self._limits else None


def _prompt(llm: LLM, size: int, repetitions: int, ceilings: _Ceilings) -> Result:
    ids = _ids(llm, size)

    def speed() -> float:
        return llm.generate(ids, 1).timing.prompt_tokens_per_s

    work = total(llm.program, Load.prompt(size), output="logits").operations / size
    peak = ceilings.of("f32_gflops" if llm.program.exact else "int8_gops")
    return _result(
        f"prompt of {size}", "tokens/s", _repeat(speed, repetitions), work / peak if peak else None
    )


def _generation(
    llm: LLM, context: int, kv: KvFormat, repetitions: int, ceilings: _Ceilings
) -> Result:
    ids = _ids(llm, context)

    def speed() -> float:
        completion = llm.generate(ids, GENERATED, ignore_eos=True, reuse_prefix=True)
        assert completion.timing.generation_tokens_per_s is not None
        return completion.timing.generation_tokens_per_s

    work = generation_bytes(llm.program, context + GENERATED // 2, kv)
    peak = ceilings.of("read_bandwidth_gbs")
    return _result(
        f"generation at {context}",
        "tokens/s",
        _repeat(speed, repetitions),
        work / peak if peak else None,
    )


def _embedding(model: Encoder, count: int, text: str, repetitions: int) -> Result:
    def speed() -> float:
        started = perf_counter()
        model.embed([text] * count)
        return count / (perf_counter() - started)

    tokens = len(model.encode(text)[0])
    return _result(f"embed {count} × {tokens} tokens", "texts/s", _repeat(speed, repetitions))


def _result(
    name: str, unit: str, values: list[float], seconds_at_limit: float | None = None
) -> Result:
    """`seconds_at_limit`: what one of what is counted would take at the computer's limit."""
    median = statistics.median(values)
    share = median * seconds_at_limit if seconds_at_limit is not None else None
    return Result(name, unit, median, min(values), max(values), share)


def _repeat(measurement: Callable[[], float], repetitions: int) -> list[float]:
    measurement()  # warm-up
    return [measurement() for _ in range(repetitions)]


def _ids(llm: LLM, size: int) -> list[int]:
    """Tokens from all over the vocabulary, always the same."""
    vocabulary = llm.model.config.vocabulary
    return [(13 + 7919 * place) % vocabulary for place in range(size)]


def _text(model: Encoder, length: int) -> str:
    """A text of `length` tokens, or a few less."""
    size = length
    while size > 1 and len(model.encode(_words(size))[0]) > length:
        size -= 1
    return _words(size)


def _words(count: int) -> str:
    return " ".join(["time"] * count)


def _first_byte(arguments: Sequence[str]) -> float:
    command = [sys.executable, "-m", "overclock", "run", "--raw", "Once", *arguments]
    started = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        seconds = perf_counter() - started
        _, errors = process.communicate()
    if process.returncode:
        raise MachineError(f"overclock run failed: {errors.decode(errors='replace').strip()}")
    return seconds
