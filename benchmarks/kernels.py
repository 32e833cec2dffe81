"""Matrix products by themselves: the shapes of five models, in every format, at several rows.

    python benchmarks/kernels.py --python peers=PATH --json FILE

Random weights; for few rows as many copies as it takes to exceed the last-level cache, so that a
single row reads memory as generation does. Rates are held against `overclock doctor`'s limits:
GB/s of weights for one row, GOP/s for many. llama.cpp (ggml_mul_mat) and ONNX Runtime (single
nodes) run beside ours where they have the format.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from common import (
    Summary,
    add_report_options,
    compare,
    interleave,
    number,
    report,
    summarize,
    table,
)
from engines import Engine, EngineError, Places, Worker

SHAPES: dict[str, dict[str, tuple[int, int]]] = {
    "SmolLM2-135M": {
        "qkv": (960, 576),
        "output": (576, 576),
        "up": (1536, 576),
        "down": (576, 1536),
        "head": (49152, 576),
    },
    "Qwen2.5-0.5B": {
        "qkv": (1152, 896),
        "output": (896, 896),
        "up": (4864, 896),
        "down": (896, 4864),
        "head": (151936, 896),
    },
    "Llama-3.2-1B": {
        "qkv": (3072, 2048),
        "output": (2048, 2048),
        "up": (8192, 2048),
        "down": (2048, 8192),
        "head": (128256, 2048),
    },
    "BERT-base": {"qkv": (2304, 768), "output": (768, 768), "up": (3072, 768), "down": (768, 3072)},
    "MiniLM-L6": {"qkv": (1152, 384), "output": (384, 384), "up": (1536, 384), "down": (384, 1536)},
}
"""(outputs, inputs) of each product of a layer, and of the vocabulary's."""

BITS: dict[str, float] = {
    "Q4_0": 4.5,
    "Q4_1": 5,
    "Q8_0": 8.5,
    "Q4_K": 4.5,
    "Q6_K": 6.5625,
    "I8": 8,
    "F16": 16,
    "F32": 32,
}
"""Bits a weight is stored in, scales included."""

ROWS = (1, 4, 16, 128, 512)
HEAD_ROWS = 4
"""Only rows whose logits are wanted reach the vocabulary's product."""

MOST_BYTES = 600e6
MOST_COPIES = 1000
COLD_ROWS = 4
WARM_COPIES = 4
"""Of a product with many rows: it is bound by arithmetic, wherever its weights are."""

OURS = Engine("overclock", "our_kernels.py", "overclock", "")
ENGINES = (
    OURS,
    Engine("llama.cpp", "ggml_kernels.py", "llama_cpp", ""),
    Engine("ONNX Runtime", "ort_kernels.py", "onnxruntime", ""),
)


@dataclass(frozen=True)
class Case:
    """One product: which model's, which of its matrices, in which format, at how many rows."""

    model: str
    matrix: str
    format: str
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return SHAPES[self.model][self.matrix]

    @property
    def bytes(self) -> float:
        """Bytes of the weights."""
        return self.size[0] * self.size[1] * BITS[self.format] / 8

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.size[0] * self.size[1] * self.rows

    def request(self) -> dict[str, object]:
        """What a worker is asked: with few rows, enough copies to exceed the last-level cache."""
        cold = min(MOST_COPIES, int(2 * last_level_cache() // self.bytes) + 1)
        copies = cold if self.rows <= COLD_ROWS else min(cold, WARM_COPIES)
        outputs, inputs = self.size
        told = {"format": self.format, "outputs": outputs, "inputs": inputs}
        return {"task": "matmul", "rows": self.rows, "copies": copies, **told}


@dataclass(frozen=True)
class Result:
    """One engine on one case, in seconds for one product."""

    case: Case
    engine: str
    values: list[float]

    @property
    def seconds(self) -> Summary:
        """Their median and quartiles."""
        return summarize(self.values)


def last_level_cache() -> int:
    """Bytes of the largest cache, 32 MB if the system does not tell."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(path.read_text().rstrip("K\n")) << 10 for path in sizes), default=32 << 20)


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """All that was asked for and makes sense, matrix by matrix."""
    for model in args.models:
        for matrix in SHAPES[model]:
            for format in args.formats:
                for rows in args.rows:
                    case = Case(model, matrix, format, rows)
                    sensible = matrix != "head" or rows <= HEAD_ROWS
                    if sensible and case.bytes <= MOST_BYTES:
                        yield case


def measure(workers: dict[str, Worker], case: Case, repetitions: int) -> Iterator[Result]:
    """All engines that have the format, taking turns."""
    request = case.request()
    able: dict[str, Callable[[int], float]] = {}
    for name, worker in workers.items():
        try:
            worker.seconds(**request)
        except EngineError as error:
            if name == OURS.name:
                print(f"{case}: {error}", file=sys.stderr)
            continue
        able[name] = _asking(worker, request)
    for name, values in interleave(able, repetitions, warmups=0, pause=0.02).items():
        yield Result(case, name, values)


def _asking(worker: Worker, request: dict[str, object]) -> Callable[[int], float]:
    return lambda _: worker.seconds(**request)


@dataclass(frozen=True)
class Limits:
    """What the computer can do at best; 0 where it is not known."""

    gigabytes: float = 0.0
    int8: float = 0.0
    f32: float = 0.0

    @classmethod
    def measured(cls, threads: int) -> Limits:
        """Doctor's figures, from its cache or measured now."""
        from overclock.machine import limits

        found = limits.load_or_measure(threads)
        return cls(
            found.limit("read_bandwidth_gbs", threads),
            found.limit("int8_gops", threads),
            found.limit("f32_gflops", threads),
        )

    def share(self, case: Case, seconds: float) -> str:
        """Of the limit that is nearer: the time that one of them alone would take, over ours."""
        peak = self.f32 if case.format in ("F16", "F32") else self.int8
        if not peak or not self.gigabytes:
            return ""
        least = max(case.bytes / self.gigabytes, case.operations / peak) / 1e9
        return f"{least / seconds:.0%}"


def render(results: list[Result], limits: Limits) -> str:
    """A line for each case: our figures, our share of the limit, the others' and the ratios."""
    by_case: dict[Case, dict[str, Result]] = {}
    for result in results:
        by_case.setdefault(result.case, {})[result.engine] = result
    others = [engine.name for engine in ENGINES[1:]]
    lines = []
    for case, found in by_case.items():
        ours = found.get(OURS.name)
        line = [f"{case.model} {case.matrix} {case.size[0]}×{case.size[1]}", case.format, case.rows]
        line += _own(case, ours, limits)
        for name in others:
            other = found.get(name)
            line.append(number(case.operations / other.seconds.median / 1e9) if other else "")
            line.append(str(compare(ours.values, other.values)) if ours and other else "")
        lines.append(line)
    headings = ["product", "format", "rows", "µs", "spread", "GB/s", "GOP/s", "of limit"]
    for name in others:
        headings += [f"{name} GOP/s", "ours ÷ it"]
    return table(headings, lines)


def _own(case: Case, ours: Result | None, limits: Limits) -> list[str]:
    if ours is None:
        return [""] * 5
    seconds = ours.seconds.median
    rates = [case.bytes / seconds / 1e9, case.operations / seconds / 1e9]
    spread = f"{ours.seconds.spread:.0%}"
    return [number(seconds * 1e6), spread, *map(number, rates), limits.share(case, seconds)]


def parse() -> argparse.Namespace:
    """Words of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--formats", nargs="+", choices=BITS, default=list(BITS))
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--python", action="append", default=[], metavar="PACKAGE=PATH")
    parser.add_argument("--without", action="append", default=[], metavar="ENGINE")
    add_report_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure and report."""
    args = parse()
    pythons = dict(word.split("=", 1) for word in args.python)
    places = Places(Path(), Path(), Path(), pythons, args.threads)
    results: list[Result] = []
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for engine in ENGINES:
            if engine.name not in args.without and places.installed(engine):
                workers[engine.name] = stack.enter_context(Worker(places.command(engine, 0)))
        for case in cases(args):
            results += measure(workers, case, args.repetitions)
    limits = Limits.measured(args.threads) if OURS.name in workers else Limits()
    figures = {
        "threads": args.threads,
        "limits": asdict(limits),
        "rows": [
            {**asdict(r.case), "engine": r.engine, "seconds": r.seconds, "values": r.values}
            for r in results
        ],
    }
    versions = "\n".join(f"* {name}: {worker.version}" for name, worker in workers.items())
    tables = {f"{args.threads} threads": render(results, limits), "Versions": versions}
    report(args, "kernels", tables, figures)


if __name__ == "__main__":
    main()
