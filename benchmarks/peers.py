r"""Run the installed peers beside overclock and print one table of medians, spreads and ratios.

    python benchmarks/peers.py --model MODEL.gguf --encoder DIRECTORY \
        --prepared DIRECTORY --python peers=PATH --json FILE

Every engine is a process of its own (workers/), loaded once; they take turns A B A B, one
computing at a time, on the same token ids, which differ from repetition to repetition so that no
prefix cache helps. An engine that is not installed is left out. See README.md for the set-up.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import engines
from common import Summary, add_report_options, compare, interleave, number, report, table
from engines import Engine, EngineError, Places, Worker
from tasks import (
    FIRST_TEXT,
    Line,
    Scenario,
    Task,
    embedding,
    generation,
    long_prompt,
    memory,
    prompt,
    shared_prefix,
    start,
    streams,
)

CONTEXT = 2304
SHORT_CONTEXT = 640
LONG_CONTEXT = 4608

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """What one engine did in one task, or in one line of one that gives several."""

    task: Line
    engine: Engine
    values: list[float]

    @property
    def summary(self) -> Summary:
        """In the task's unit."""
        return self.task.summary(self.values)


GOALS: dict[tuple[str, str], float] = {
    ("prompt 512", "OpenVINO GenAI"): 2.0,
    ("prompt 512", "llama.cpp"): 10.0,
    ("generation, context ≤ 128", "llama.cpp"): 2.3,
    ("prompt 512, threads", "overclock 1t"): 1.8,
    ("start to first token", "llama.cpp"): 1 / 0.7,
    ("peak memory", "llama.cpp"): 1.0,
    ("embed 32×128", "ONNX Runtime int8"): 2.2,
    ("embed 1×16", "ONNX Runtime int8"): 1.5,
    ("embed 32×128", "ONNX Runtime f32"): 1.3,
    ("embed 32×128", "OpenVINO f32"): 1.3,
}
"""How many times better than which engine overclock has set out to be."""

EVERY_PEER: dict[str, float] = {"streams 8": 3.0, "streams 32": 3.0}
"""How many times better than the best engine, so than every one."""

LIMITS: dict[str, float] = {
    "shared prefix, second ÷ first": 0.1,
    "long prompt, p99 gap ÷ p50 undisturbed": 2.5,
}
"""What overclock has set out not to exceed, whatever others do."""

SHORT = generation("generation, context ≤ 128", 32, 96)
LONG = generation("generation, context 2000", 1968, 64)


@dataclass(frozen=True)
class Section:
    """Engines that stay loaded, with room for so many tokens a stream, and take turns at tasks."""

    engines: Sequence[Engine]
    tasks: Sequence[Task | Scenario]
    context: int = CONTEXT


SECTIONS: dict[str, Section] = {
    "decoder": Section(engines.DECODERS, (prompt(128), prompt(512), SHORT, LONG)),
    "kv8": Section(engines.KV8, (SHORT, LONG)),
    "threads": Section(engines.SCALING, (prompt(512, "prompt 512, threads"),)),
    "streams": Section(engines.STREAMS, (streams(8), streams(32))),
    "prefix": Section(engines.PREFIX, (shared_prefix(),)),
    "long": Section(engines.LONG_PROMPT, (long_prompt(),), LONG_CONTEXT),
    "encoder": Section(
        engines.ENCODERS,
        (embedding(1, 16), embedding(1, 128), embedding(32, 32), embedding(32, 128)),
    ),
}

FRESH: tuple[tuple[Task, list[str]], ...] = (
    (Task("start to first token", 0, "s", start), ["--first-token", FIRST_TEXT]),
    (Task("peak memory", 0, "MB", memory, scale=1e-6), []),
)
"""Tasks that need a fresh process each time, with the words it is started with."""


class Run:
    """One run of the benchmark: what is left out, and why, is kept in `notes`."""

    def __init__(self, places: Places, repetitions: int, without: frozenset[str]) -> None:
        self.places = places
        self.repetitions = repetitions
        self.without = without
        self.notes: list[str] = []
        self.versions: dict[str, str] = {}

    def section(self, name: str) -> Iterator[Row]:
        """The rows of engines that stay loaded and take turns."""
        section = SECTIONS[name]
        tasks = [task for task in section.tasks if task.name not in self.without]
        with ExitStack() as stack:
            workers = self._start(stack, section) if tasks else {}
            for task in tasks:
                if isinstance(task, Scenario):
                    yield from self._lines(task, workers)
                else:
                    yield from self._rows(task, {e: task.on(w) for e, w in workers.items()})

    def fresh(self) -> Iterator[Row]:
        """The rows of tasks that start their own processes."""
        for task, words in FRESH:
            if task.name not in self.without:
                installed = [engine for engine in engines.FRESH if self._installed(engine)]
                yield from self._rows(task, {e: self._starter(task, e, words) for e in installed})

    def _starter(self, task: Task, engine: Engine, words: list[str]) -> Callable[[int], float]:
        def measure(repetition: int) -> float:
            with Worker([*self.places.command(engine, SHORT_CONTEXT), *words]) as worker:
                return task.measure(worker, repetition)

        return measure

    def _rows(self, task: Task, measures: Mapping[Engine, Callable[[int], float]]) -> Iterator[Row]:
        for engine, values in self._values(task.name, measures).items():
            yield Row(task, engine, values)

    def _lines(self, scenario: Scenario, workers: Mapping[Engine, Worker]) -> Iterator[Row]:
        values = self._values(scenario.name, {e: scenario.on(w) for e, w in workers.items()})
        for index, line in enumerate(scenario.lines):
            for engine, told in values.items():
                yield Row(line, engine, [each[index] for each in told])

    def _values(
        self, task: str, measures: Mapping[Engine, Callable[[int], T]]
    ) -> dict[Engine, list[T]]:
        """What those engines that can do it told, in turns."""
        able: dict[str, Callable[[int], T]] = {}
        by_name = {engine.name: engine for engine in measures}
        for engine, measure in measures.items():
            try:
                measure(-1)
                able[engine.name] = measure
            except EngineError as error:
                self.notes.append(f"{engine.name}, {task}: {error}")
        print(f"{task}: {', '.join(able)}", file=sys.stderr)
        values = interleave(able, self.repetitions, warmups=0)
        return {by_name[name]: each for name, each in values.items()}

    def _start(self, stack: ExitStack, section: Section) -> dict[Engine, Worker]:
        workers: dict[Engine, Worker] = {}
        for engine in section.engines:
            if not self._installed(engine):
                continue
            try:
                command = self.places.command(engine, section.context)
                worker = stack.enter_context(Worker(command))
            except EngineError as error:
                self.notes.append(f"{engine.name}: {error}")
                continue
            workers[engine] = worker
            self.versions[engine.name] = worker.version
        return workers

    def _installed(self, engine: Engine) -> bool:
        if engine.name in self.without:
            return False
        if self.places.installed(engine):
            return True
        self.notes.append(f"{engine.name}: {engine.package} is not installed")
        return False


def render(rows: Sequence[Row]) -> str:
    """The table: every figure, its spread, and how many times better ours is in the same rounds."""
    values = {(row.task.name, row.engine.name): row.values for row in rows}
    lines = []
    for row in rows:
        summary = row.summary
        ours = values.get((row.task.name, row.engine.against))
        other = row.engine.name != row.engine.against and ours is not None
        ratio = compare(ours, row.values) if other and ours is not None else None
        lines.append(
            (
                f"{row.task.name}, {row.task.unit}",
                row.engine.name,
                number(summary.median),
                f"{number(summary.low)}–{number(summary.high)}",
                ratio or "",
                f"{number(ratio.ratio.low)}–{number(ratio.ratio.high)}" if ratio else "",
                _limit(row) or _goal(row, ratio.ratio if ratio else None),
            )
        )
    headings = ("task", "engine", "median", "quartiles", "ours ÷ it", "quartiles", "goal")
    return table(headings, lines)


def _goal(row: Row, ratio: Summary | None) -> str:
    """Whether ours is as many times better than this engine as it has set out to be."""
    name = row.task.name
    every = None if row.engine.ours else EVERY_PEER.get(name)
    goal = GOALS.get((name, row.engine.name), every)
    if goal is None:
        return ""
    told = f"≥ {number(goal)}"
    return f"{told} {_verdict(ratio.low >= goal, ratio.high < goal)}" if ratio else told


def _limit(row: Row) -> str:
    """Whether ours stays below what it has set out to."""
    limit = LIMITS.get(row.task.name)
    if limit is None or not row.engine.ours:
        return ""
    figure = row.summary
    return f"≤ {number(limit)} {_verdict(figure.high <= limit, figure.low > limit)}"


def _verdict(reached: bool, missed: bool) -> str:
    """One of both only where the quartiles are on one side of the goal."""
    return "reached" if reached else "missed" if missed else "uncertain"


def long_context(rows: Sequence[Row]) -> str:
    """Each engine's speed at context 2,000 as a share of its own at 128."""
    medians = {(row.task.name, row.engine.name): row.summary.median for row in rows}
    lines = [
        (name, f"{medians[LONG.name, name] / medians[SHORT.name, name]:.0%}")
        for task, name in medians
        if task == SHORT.name and (LONG.name, name) in medians
    ]
    return table(("engine", "share"), lines)


def parse() -> argparse.Namespace:
    """Words of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engines.add_options(parser)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument(
        "--only", action="append", default=[], choices=[*SECTIONS, "fresh"], help="may be repeated"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="an engine or a task"
    )
    add_report_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure what is installed and report it."""
    args = parse()
    run = Run(Places.of(args), args.repetitions, frozenset(args.without))
    rows: list[Row] = []
    for name in args.only or [*SECTIONS, "fresh"]:
        rows += run.fresh() if name == "fresh" else run.section(name)
    notes = "\n".join(f"* {note}" for note in dict.fromkeys(run.notes)) or "none"
    versions = "\n".join(f"* {name}: {version}" for name, version in run.versions.items())
    tables = {
        f"{args.threads} threads, medians of {args.repetitions}": render(rows),
        "Speed at context 2,000 over speed at 128": long_context(rows),
        "Versions": versions,
        "Left out": notes,
    }
    figures = {
        "threads": args.threads,
        "versions": run.versions,
        "left_out": run.notes,
        "rows": [
            {
                "task": row.task.name,
                "unit": row.task.unit,
                "engine": row.engine.name,
                "summary": row.summary,
                "values": row.values,
            }
            for row in rows
        ],
    }
    report(args, "peers", tables, figures)


if __name__ == "__main__":
    main()
