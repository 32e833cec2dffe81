"""The short benchmark: a model's speed on this computer, beside what the computer allows.

Medians of repetitions after a warm-up, with the lowest and highest beside them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
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
class Work:
    """What one unit of a figure takes at least: operations or bytes, and of which limit."""

    amount: float
    quantity: limits.Quantity


@dataclass(frozen=True, slots=True)
class Result:
    """One figure: median, lowest and highest."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    work: Work | None = None


def language_model(llm: LLM, kv: KvFormat, repetitions: int) -> Iterator[Result]:
    """Tokens/s of a prompt, and of generation at several contexts, as far as they fit."""
    yield _prompt(llm, min(PROMPT, llm.context), repetitions)
    for context in CONTEXTS:
        if context + GENERATED <= llm.context:
            yield _generation(llm, context, kv, repetitions)


def shares(results: Sequence[Result], threads: int | None) -> list[float | None]:
    """Each figure's share of what this computer can do with so many threads, where it is known.

    Measures the computer if that has not been done; this takes some seconds and memory.
    """
    count = threads or limits.usable_cores()
    try:
        known = limits.load_or_measure(count)
    except (ImportError, OverclockError):
        return [None] * len(results)

    def share(result: Result) -> float | None:
        if result.work is None:
            return None
        ceiling = known.limit(result.work.quantity, count) * 1e9
        return result.median * result.work.amount / ceiling

    return [share(result) for result in results]


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


def _prompt(llm: LLM, size: int, repetitions: int) -> Result:
    ids = _ids(llm, size)

    def speed() -> float:
        timing = llm.generate(ids, 1, reuse_prefix=False).timing
        assert timing.prompt_tokens_per_s is not None
        return timing.prompt_tokens_per_s

    operations = total(llm.program, Load.prompt(size), output="logits").operations / size
    work = Work(operations, "f32_gflops" if llm.program.exact else "int8_gops")
    return _result(f"prompt of {size}", "tokens/s", _repeat(speed, repetitions), work)


def _generation(llm: LLM, context: int, kv: KvFormat, repetitions: int) -> Result:
    ids = _ids(llm, context)

    def speed() -> float:
        completion = llm.generate(ids, GENERATED, ignore_eos=True, speculation="off")
        assert completion.timing.generation_tokens_per_s is not None
        return completion.timing.generation_tokens_per_s

    work = Work(generation_bytes(llm.program, context + GENERATED // 2, kv), "read_bandwidth_gbs")
    return _result(f"generation at {context}", "tokens/s", _repeat(speed, repetitions), work)


def _embedding(model: Encoder, count: int, text: str, repetitions: int) -> Result:
    def speed() -> float:
        started = perf_counter()
        model.embed([text] * count)
        return count / (perf_counter() - started)

    tokens = len(model.encode(text)[0])
    return _result(f"embed {count} × {tokens} tokens", "texts/s", _repeat(speed, repetitions))


def _result(name: str, unit: str, values: list[float], work: Work | None = None) -> Result:
    return Result(name, unit, statistics.median(values), min(values), max(values), work)


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
