"""Runs probes on this computer's machine and takes the time of each of their kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from overclock.machine.limits import Limits
from overclock.machine.machine import Batch, Machine
from overclock.model.formats import Format
from overclock.model.model import Model
from overclock.predict import probes
from overclock.predict.fit import Sample, farness
from overclock.predict.kernels import Lengths, Work, run_bytes, works
from overclock.program.compiler import compile
from overclock.program.program import PAGE_TOKENS, KvFormat, Program

SECONDS = 0.06
"""That one batch is repeated for, but `LEAST` times at least and `MOST` at most."""

LEAST, MOST = 3, 12

PAGES_AT_ONCE = 64

Shape = tuple[Sequence[int], Sequence[int], int]
"""New tokens of each sequence, those it has already, and rows whose output is wanted."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of program whose kernels belong together.

    family: llama or bert; format: of its layers' matrices; head: of the output head
    int8: floats become int8 as they are loaded; exact: activations stay in f32
    """

    family: str
    format: Format
    head: Format
    int8: bool = False
    exact: bool = False

    @property
    def name(self) -> str:
        """The kind in a few words."""
        marks = ("int8" if self.int8 else "", "exact" if self.exact else "")
        return " ".join(filter(None, (self.family, self.format.value, self.head.value, *marks)))


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a run took beside its instructions."""

    load: Lengths
    seconds: float


def kinds_of(model: Model, *, int8: bool = False, exact: bool = False) -> list[Kind]:
    """The kinds of probes that have a model's kernels: one for each format of its matrices."""
    layers = (
        tensor.format
        for name, tensor in model.weights.items()
        if name.startswith("blk.") and len(tensor.shape) == 2
    )
    head = model.weights.get("output.weight") or model.weights["token_embd.weight"]
    family = model.config.family
    return [Kind(family, each, head.format, int8, exact) for each in dict.fromkeys(layers)]


def row_shapes(family: str) -> list[Shape]:
    """Batches of every number of rows at which kernels change their way."""
    if family == "bert":
        few = [([rows], [0], 0) for rows in (8, 16, 32, 64)]
        many = [([64] * (rows // 64), [0] * (rows // 64), 0) for rows in (128, 256, 512, 1024)]
        return [*few, *many]
    single = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
    several = [([1] * rows, [40] * rows, rows) for rows in single]
    prompts = [([128], [0], 1), ([128] * 4, [0] * 4, 128)]
    return [*several, *prompts]


def far_shapes(family: str) -> list[Shape]:
    """Batches of few rows, for weights that come from far."""
    if family == "bert":
        return [([rows], [0], 0) for rows in (8, 16, 32, 64)]
    return [([1] * rows, [40] * rows, rows) for rows in (1, 2, 4, 8, 16, 32, 64)]


def attention_shapes(family: str) -> list[Shape]:
    """Batches that tell attention's parts apart."""
    if family == "bert":
        sizes = ((1, 16), (1, 128), (1, 400), (8, 24), (8, 128), (32, 16), (32, 64), (16, 250))
        return [([length] * count, [0] * count, 0) for count, length in sizes]
    contexts = (
        *((1, 300), (1, 1000), (1, 2500), (3, 700), (4, 60), (8, 250), (8, 1500)),
        *((16, 100), (16, 900), (32, 60), (32, 400), (32, 1800)),
    )
    several = [([1] * count, [context] * count, count) for count, context in contexts]
    prompts = [([32], [600], 1), ([64], [0], 1), ([300], [0], 1), ([16] * 8, [300] * 8, 8)]
    return [*several, *prompts, ([512], [1200], 1)]


def probe_models(kind: Kind, size: int) -> Iterator[Model]:
    """The probes of a kind, one after another, each with layers of `size` bytes in all."""
    if kind.family == "bert":
        yield from (probes.encoder(sizes, kind.format, size) for sizes in probes.ENCODERS)
    else:
        for sizes in probes.DECODERS:
            yield probes.decoder(sizes, kind.format, kind.head, size)


def check_model(kind: Kind) -> Model:
    """A probe of other sizes, on which predictions are tried."""
    if kind.family == "bert":
        return probes.encoder(probes.CHECK_ENCODER, kind.format, probes.CHECK_BYTES)
    return probes.decoder(probes.CHECK_DECODER, kind.format, kind.head, probes.CHECK_BYTES)


def check_shapes(family: str) -> list[Shape]:
    """Batches that no formula was made from."""
    if family == "bert":
        sizes = ((1, 50), (5, 30), (12, 90), (2, 350))
        return [([length] * count, [0] * count, 0) for count, length in sizes]
    contexts = ((1, 150), (1, 1700), (5, 400), (10, 900), (20, 250), (28, 1300))
    several = [([1] * count, [context] * count, count) for count, context in contexts]
    return [*several, ([90], [0], 1), ([256], [500], 1)]


def compile_probe(model: Model, kind: Kind) -> Program:
    """The program of a probe."""
    return compile(model, exact=kind.exact, weight_format=Format.I8 if kind.int8 else None)


def output_of(program: Program) -> str:
    """What a decoder generates from, or what an encoder makes of a text."""
    return "logits" if program.caches else "embedding"


class Bench:
    """A machine with one program loaded, that times batches."""

    def __init__(
        self,
        machine: Machine,
        model: Model,
        program: Program,
        limits: Limits,
        threads: int,
        kv: KvFormat,
        pages: int,
    ) -> None:
        machine.load(program, model.weights, pages=pages)
        _fill(machine, pages)
        self._machine = machine
        self._program = program
        self.output = output_of(program)
        self._works = works(program, kv)
        self._limits = limits
        self._threads = threads

    def measure(self, shape: Shape) -> tuple[list[Sample], Overhead]:
        """A sample of each different kernel, and what the run took beside them."""
        load = Lengths.of(*shape)
        needed = self._program.needed_for(self.output)
        moved = run_bytes(self._program, load, {index: self._works[index] for index in needed})
        far = farness(self._bandwidth, moved)
        seconds, beside = self._times(batch_of(self._program, shape, self.output))
        groups: dict[Work, list[float]] = {}
        for index in needed:
            groups.setdefault(self._works[index], []).append(float(seconds[index]))
        samples = [
            Sample(work, load, float(np.mean(times)), moved, self._bandwidth(moved), far)
            for work, times in groups.items()
        ]
        return samples, Overhead(load, beside)

    def _bandwidth(self, moved: float) -> float:
        return 1e9 * self._limits.bandwidth(max(moved, 1.0), self._threads)

    def seconds(self, shape: Shape) -> float:
        """A whole run."""
        seconds, beside = self._times(batch_of(self._program, shape, self.output))
        return float(seconds.sum()) + beside

    def _times(self, batch: Batch) -> tuple[NDArray[np.float64], float]:
        """Medians of each instruction, and of what is beside them."""
        self._machine.run(batch)
        self._machine.counters()
        found: list[NDArray[np.float64]] = []
        beside: list[float] = []
        began = perf_counter()
        while len(found) < LEAST or (len(found) < MOST and perf_counter() - began < SECONDS):
            self._machine.run(batch)
            counters = self._machine.counters()
            found.append(counters.seconds)
            beside.append(counters.whole - float(counters.seconds.sum()))
        return np.median(np.array(found), axis=0), float(np.median(beside))


def _fill(machine: Machine, pages: int) -> None:
    """Write all KV pages: memory that nobody wrote is one page of zeros, which the caches hold."""
    for first in range(0, pages, PAGES_AT_ONCE):
        numbers = list(range(first, min(pages, first + PAGES_AT_ONCE)))
        machine.write_pages(numbers, np.zeros((len(numbers), machine.page_bytes), np.uint8))


def batch_of(program: Program, shape: Shape, output: str) -> Batch:
    """A batch of this shape; its tokens are all the same."""
    lengths, contexts, selected = shape
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    tokens = int(starts[-1])
    each = [-(-(new + old) // PAGE_TOKENS) for new, old in zip(lengths, contexts, strict=True)]
    pages = np.zeros((len(lengths), max(each) if program.caches else 0), np.int32)
    first = 0
    for row, count in zip(pages, each, strict=True):
        row[:count] = np.arange(first, first + count)[: len(row)]
        first += count
    rows = np.arange(tokens - selected, tokens, dtype=np.int32)
    if selected == len(lengths):
        rows = starts[1:] - np.int32(1)
    return Batch(
        token_ids=np.ones(tokens, np.int32),
        starts=starts,
        contexts=np.array(contexts, np.int32),
        pages=pages,
        output_rows=rows,
        output=output,
    )


def pages_for(shapes: Sequence[Shape]) -> int:
    """KV pages that the largest of some batches needs."""
    return max(
        sum(-(-(new + old) // PAGE_TOKENS) for new, old in zip(lengths, contexts, strict=True))
        for lengths, contexts, _ in shapes
    )
