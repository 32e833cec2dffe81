"""Timing, comparison and reporting that all benchmarks share. Needs nothing but Python."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

RESULTS = Path(__file__).parent / "results"

LOAD_AT_START = os.getloadavg()[0]
BUSY = 0.7
"""Runnable threads on average in the minute before; with more, others disturbed the figures."""

PAUSE_SECONDS = 0.2
"""Between measurements, so that threads of the engine before have stopped spinning."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The middle of some measurements and the quarter of them below and above."""

    median: float
    low: float
    high: float
    count: int

    @property
    def spread(self) -> float:
        """Interquartile range as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times faster `a` is than `b`, from pairs measured one after the other."""

    ratio: Summary

    @property
    def conclusive(self) -> bool:
        """False when the ratios spread more than they differ from 1: nothing follows then."""
        enough = self.ratio.count >= 3
        return enough and self.ratio.high - self.ratio.low < abs(self.ratio.median - 1)

    def __str__(self) -> str:
        text = f"{self.ratio.median:.2f} ×"
        return text if self.conclusive else f"{text} (inconclusive)"


def summarize(values: Sequence[float]) -> Summary:
    """Median and quartiles of at least one value."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return Summary(ordered[0], ordered[0], ordered[0], 1)
    low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return Summary(median, low, high, len(ordered))


def compare(seconds_a: Sequence[float], seconds_b: Sequence[float]) -> Comparison:
    """The speed of `a` over that of `b`, round by round, so that slow drift cancels."""
    pairs = zip(seconds_a, seconds_b, strict=True)
    return Comparison(summarize([b / a for a, b in pairs]))


T = TypeVar("T")


def interleave(
    measures: Mapping[str, Callable[[int], T]],
    repetitions: int,
    *,
    warmups: int = 1,
    pause: float = PAUSE_SECONDS,
) -> dict[str, list[T]]:
    """Values by name, measured A B A B …; each call gets the number of its repetition.

    Warm-up calls get negative numbers and are not kept.
    """
    values: dict[str, list[T]] = {name: [] for name in measures}
    for repetition in range(-warmups, repetitions):
        for name, measure in measures.items():
            time.sleep(pause)
            value = measure(repetition)
            if repetition >= 0:
                values[name].append(value)
    return values


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory(pid: int | None = None) -> int:
    """The most bytes a process has had resident (VmHWM), mapped files included; Linux only."""
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def machine() -> dict[str, object]:
    """What figures depend on: processor, memory, system, date."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = set(_first(r"flags\s*: (.*)", info, "").split())
    told = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
    return {
        "date": datetime.now().astimezone().date().isoformat(),
        "processor": _first(r"model name\s*: (.*)", info, platform.processor() or "unknown"),
        "family_model": [_first(r"cpu family\s*: (.*)", info), _first(r"model\s*: (.*)", info)],
        "cores": len(os.sched_getaffinity(0)),
        "instruction_sets": [name for name in told if name in flags],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_at_start": LOAD_AT_START,
    }


def _first(pattern: str, text: str, otherwise: str = "") -> str:
    found = re.search(pattern, text)
    return found[1].strip() if found else otherwise


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table that also reads well in a terminal; the first column is text."""
    cells = [[str(cell) for cell in row] for row in rows]
    columns = zip(headings, *cells, strict=True)
    widths = [max(len(cell) for cell in column) for column in columns]

    def line(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(headings), line(rule), *map(line, cells)])


def number(value: float) -> str:
    """Three significant figures, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def per_second(work: float, seconds: Sequence[float]) -> Summary:
    """Rates from times; low and high stay in order."""
    return summarize([work / value for value in seconds])


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """`--json FILE` and `--save`, the same in every benchmark."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here")
    parser.add_argument(
        "--save", action="store_true", help="keep table and figures under benchmarks/results/"
    )


def report(
    args: argparse.Namespace, name: str, tables: Mapping[str, str], figures: Mapping[str, object]
) -> None:
    """Print the tables and write the files that `add_report_options` let the user ask for."""
    described = machine()
    parts = [f"# {name}, {described['date']}, {described['processor']}"]
    if LOAD_AT_START > BUSY:
        parts.append(f"Preliminary: the machine was busy (load average {LOAD_AT_START:.1f}).")
    parts += [f"## {heading}\n\n{text}" for heading, text in tables.items()]
    markdown = "\n\n".join(parts) + "\n"
    print(markdown)
    everything = {"benchmark": name, "machine": described, **figures}
    text = json.dumps(everything, indent=1, default=_plain)
    if args.json:
        args.json.write_text(text + "\n")
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        processor = re.sub(r"[^a-z0-9]+", "-", str(described["processor"]).lower()).strip("-")
        path = RESULTS / f"{described['date']}-{processor}-{name}"
        path.with_suffix(".json").write_text(text + "\n")
        path.with_suffix(".md").write_text(markdown)


def _plain(value: object) -> object:
    if isinstance(value, Summary | Comparison):
        return asdict(value)
    return str(value)
