"""overclock by itself: prompt, generation by context and KV format, encoder, start-up and memory,
and an account of where the time goes, held against what this computer can do.

    python benchmarks/ours.py --json FILE

The account runs the machine directly and reads its counters: seconds of each instruction, beside
the operations and bytes that the program's cost rules count for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace

import numpy as np

import engines
from common import Summary, add_report_options, number, report, summarize, table
from engines import OURS, Engine, Places, Worker
from overclock.machine import limits
from overclock.machine.limits import Limits
from overclock.machine.machine import Batch
from overclock.machine.native import NativeMachine
from overclock.model.formats import Format
from overclock.model.load import load
from overclock.model.model import Model
from overclock.program import cost
from overclock.program.compiler import compile
from overclock.program.cost import Load
from overclock.program.isa import Op
from overclock.program.program import PAGE_TOKENS, KvFormat, Program
from tasks import (
    FIRST_TEXT,
    embedding,
    generation,
    memory,
    prompt,
    take_turns,
    token_ids,
)

PROMPTS = (128, 512, 2048)
CONTEXTS = (128, 512, 1000, 2000, 4000)
KV_FORMATS: tuple[KvFormat, ...] = ("f16", "i8", "f32")
STEPS = 48
CONTEXT = 4096
SHORT_CONTEXT = 640
SENTENCES = ((1, 16), (1, 128), (32, 32), (32, 128))


@dataclass(frozen=True)
class Figure:
    """One measured figure in its unit and its share of a limit, if one applies."""

    name: str
    unit: str
    summary: Summary
    share: float | None = None


@dataclass(frozen=True)
class Entry:
    """What all instructions of one opcode cost together in one run."""

    op: str
    count: int
    seconds: float
    operations: int
    integer: bool
    bytes: int

    def shares(self, known: Limits, threads: int) -> tuple[float, float]:
        """Of the arithmetic peak of its kind, and of the read bandwidth."""
        peak = known.limit("int8_gops" if self.integer else "f32_gflops", threads) * 1e9
        bandwidth = known.limit("read_bandwidth_gbs", threads) * 1e9
        return self.operations / self.seconds / peak, self.bytes / self.seconds / bandwidth


class Bench:
    """One program on one native machine, driven a batch at a time."""

    def __init__(self, model: Model, program: Program, threads: int, kv: KvFormat = "f16") -> None:
        pages = CONTEXT // PAGE_TOKENS if program.caches else 0
        self.program = program
        self.kv = kv
        self.machine = NativeMachine(threads, kv=kv)
        self.machine.load(program, model.weights, pages=pages)
        self.pages = np.arange(pages, dtype=np.int32)[None, :]

    def run(self, ids: Sequence[int], context: int) -> None:
        """Add `ids` to the one sequence, which has `context` tokens."""
        batch = Batch(
            token_ids=np.array(ids, np.int32),
            starts=np.array([0, len(ids)], np.int32),
            contexts=np.array([context], np.int32),
            pages=self.pages,
            output_rows=np.array([len(ids) - 1], np.int32),
            output="logits",
        )
        self.machine.run(batch)

    def fill(self, context: int) -> None:
        """Put `context` tokens into the KV pages, 512 at a time."""
        for start in range(0, context, 512):
            self.run(token_ids(min(512, context - start), f"fill {start}"), start)

    def encode(self, sentences: int, tokens: int) -> None:
        """Embed sentences of one length."""
        batch = Batch(
            token_ids=np.array(token_ids(sentences * tokens, "encode"), np.int32),
            starts=np.arange(sentences + 1, dtype=np.int32) * tokens,
            contexts=np.zeros(sentences, np.int32),
            pages=np.zeros((sentences, 0), np.int32),
            output_rows=np.zeros(0, np.int32),
            output="embedding",
        )
        self.machine.run(batch)

    def account(self, load: Load, output: str) -> list[Entry]:
        """Where the time went since the counters were last read, a run; slowest opcode first."""
        counters = self.machine.counters()
        entries: dict[tuple[str, bool], Entry] = {}
        for index in cost.chosen(self.program, output):
            instruction = self.program.instructions[index]
            spent = cost.cost(self.program, instruction, load, self.kv)
            integer = cost.uses_integers(self.program, instruction)
            old = entries.get((instruction.op, integer), Entry(instruction.op, 0, 0, 0, integer, 0))
            entries[instruction.op, integer] = Entry(
                instruction.op,
                old.count + 1,
                old.seconds + float(counters.seconds[index]) / counters.runs,
                old.operations + spent.operations,
                integer,
                old.bytes + spent.weight_bytes + spent.kv_bytes,
            )
        return sorted(entries.values(), key=lambda entry: -entry.seconds)


def running(stack: ExitStack, places: Places, variants: Mapping[str, Engine]) -> dict[str, Worker]:
    """Workers that stay loaded until the stack is left."""
    started = {name: Worker(places.command(e, CONTEXT)) for name, e in variants.items()}
    for worker in started.values():
        stack.enter_context(worker)
    return started


def prompts(places: Places, repetitions: int) -> Iterator[Figure]:
    """Tokens a second of prompts, with one thread and with all."""
    variants = {str(n): replace(OURS, threads=n) for n in sorted({1, places.threads})}
    with ExitStack() as stack:
        workers = running(stack, places, variants)
        for task in map(prompt, PROMPTS):
            for threads, values in take_turns(task, workers, repetitions).items():
                name = f"{task.name}, {threads} thread{'s' * (threads != '1')}"
                yield Figure(name, task.unit, task.summary(values))


def generations(
    places: Places, program: Program, known: Limits, repetitions: int
) -> Iterator[Figure]:
    """Tokens a second of one stream at several contexts, for each KV format in turn."""
    bandwidth = known.limit("read_bandwidth_gbs", places.threads) * 1e9
    variants: dict[str, Engine] = {kv: replace(OURS, options={"kv": kv}) for kv in KV_FORMATS}
    with ExitStack() as stack:
        workers = running(stack, places, variants)
        for context in CONTEXTS:
            # Generated tokens lie around the context: half of them before it, half behind.
            task = generation(f"generation at {context}", context - STEPS // 2, STEPS)
            for kv, values in take_turns(task, workers, repetitions).items():
                speed = task.summary(values)
                needed = cost.generation_bytes(program, context, _kv(kv))
                share = speed.median * needed / bandwidth
                yield Figure(f"{task.name}, KV {kv}", task.unit, speed, share)


def _kv(name: str) -> KvFormat:
    return next(kv for kv in KV_FORMATS if kv == name)


def encoders(places: Places, repetitions: int) -> Iterator[Figure]:
    """Sentences a second, f32 and int8 in turns."""
    variants = {engine.name: engine for engine in engines.ENCODERS if engine.ours}
    with ExitStack() as stack:
        workers = running(stack, places, variants)
        for sentences, tokens in SENTENCES:
            task = embedding(sentences, tokens)
            for name, values in take_turns(task, workers, repetitions).items():
                yield Figure(f"{task.name}, {name.split()[-1]}", task.unit, task.summary(values))


def fresh(places: Places, repetitions: int) -> Iterator[Figure]:
    """Start of a process to its first token, and the most memory after 512 + 64 tokens."""
    starts, peaks = [], []
    for repetition in range(-1, repetitions):
        command = [*places.command(OURS, SHORT_CONTEXT), "--first-token", FIRST_TEXT]
        with Worker(command) as worker:
            if repetition >= 0:
                starts.append(worker.start_seconds)
            peaks.append(memory(worker, repetition) / 1e6)
    yield Figure("start of the process to first token", "s", summarize(starts))
    yield Figure("peak memory, prompt 512 and 64 tokens", "MB", summarize(peaks))


def decoder_accounts(
    model: Model, threads: int, repetitions: int
) -> Iterator[tuple[str, list[Entry]]]:
    """Accounts of a prompt of 512 and of generation at contexts 128 and 2,000."""
    bench = Bench(model, compile(model), threads)
    ids = token_ids(512, "account")
    bench.run(ids, 0)
    bench.machine.counters()
    for _ in range(repetitions):
        bench.run(ids, 0)
    yield "prompt of 512", bench.account(Load.prompt(512), "logits")
    for context in (128, 2000):
        bench.fill(context)
        bench.machine.counters()
        for _ in range(STEPS):
            bench.run([1000], context)
        yield f"a token at context {context}", bench.account(Load.generation(context), "logits")


def encoder_accounts(
    model: Model, threads: int, repetitions: int
) -> Iterator[tuple[str, list[Entry]]]:
    """Accounts of 32 sentences of 128 tokens, f32 and int8."""
    for name, format in (("f32", None), ("int8", Format.I8)):
        bench = Bench(model, compile(model, weight_format=format), threads)
        bench.encode(32, 128)
        bench.machine.counters()
        for _ in range(repetitions):
            bench.encode(32, 128)
        load = Load((128,) * 32, (0,) * 32, 0)
        yield f"embed 32×128, {name}", bench.account(load, "embedding")


def account_table(entries: list[Entry], known: Limits, threads: int) -> str:
    """One line an opcode, and what the matrix products reach together."""
    everything = sum(entry.seconds for entry in entries)
    products = [e for e in entries if e.op in (Op.MATMUL, Op.GATED_MATMUL) and e.integer]
    lines = [_line(entry, everything, known, threads) for entry in entries]
    if products:
        together = Entry(
            "all products",
            sum(entry.count for entry in products),
            sum(entry.seconds for entry in products),
            sum(entry.operations for entry in products),
            True,
            sum(entry.bytes for entry in products),
        )
        lines.append(_line(together, everything, known, threads))
    headings = ("opcode", "count", "µs", "of time", "GOP/s", "of peak", "GB/s", "of bandwidth")
    return table(headings, lines)


def _line(entry: Entry, everything: float, known: Limits, threads: int) -> list[str]:
    peak, bandwidth = entry.shares(known, threads)
    return [
        f"{entry.op} {'i8' if entry.integer else ''}".strip(),
        str(entry.count),
        number(entry.seconds * 1e6),
        f"{entry.seconds / everything:.1%}",
        number(entry.operations / entry.seconds / 1e9),
        f"{peak:.0%}",
        number(entry.bytes / entry.seconds / 1e9),
        f"{bandwidth:.0%}",
    ]


def figure_table(figures: Sequence[Figure]) -> str:
    """One line a figure."""
    lines = [
        (
            figure.name,
            number(figure.summary.median),
            figure.unit,
            f"{number(figure.summary.low)}–{number(figure.summary.high)}",
            "" if figure.share is None else f"{figure.share:.0%}",
        )
        for figure in figures
    ]
    return table(("what", "median", "unit", "quartiles", "of limit"), lines)


def main() -> None:
    """Measure everything and report it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engines.add_options(parser)
    parser.add_argument("--repetitions", type=int, default=7)
    add_report_options(parser)
    args = parser.parse_args()
    places = Places.of(args)
    known = limits.load_or_measure(args.threads)
    decoder, encoder = load(places.decoder), load(places.encoder)
    accounts = dict(decoder_accounts(decoder, args.threads, args.repetitions))
    accounts |= dict(encoder_accounts(encoder, args.threads, args.repetitions))
    figures = [
        *prompts(places, args.repetitions),
        *generations(places, compile(decoder), known, args.repetitions),
        *encoders(places, args.repetitions),
        *fresh(places, args.repetitions),
    ]
    tables = {f"{args.threads} threads, medians of {args.repetitions}": figure_table(figures)}
    for name, entries in accounts.items():
        tables[f"Account: {name}"] = account_table(entries, known, args.threads)
    kept = {
        "threads": args.threads,
        "limits": asdict(known),
        "figures": [asdict(figure) for figure in figures],
        "accounts": {name: [asdict(e) for e in entries] for name, entries in accounts.items()},
    }
    report(args, "ours", tables, kept)


if __name__ == "__main__":
    main()
