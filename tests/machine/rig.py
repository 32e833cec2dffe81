"""What the tests of the machines share: fixtures as programs, and sequences fed in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.machine.machine import Batch, KvFormat, Machine
from overclock.machine.reference import ReferenceMachine
from overclock.model.formats import Format
from overclock.model.load import load
from overclock.model.model import Model
from overclock.program.compiler import compile
from overclock.program.program import PAGE_TOKENS, Program

FIXTURES = Path(__file__).parents[1] / "fixtures"
DECODERS = (
    "llama",
    "llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma3",
    "llama-gguf",
    "llama3-gguf",
    "all-types",
)
ENCODERS = (
    "bert",
    "bert-sequence",
    "roberta-token",
    "distilbert-sequence",
    "bert-mean",
    "bert-cls",
)
PAGES = 16

Array = NDArray[np.float32]
IntArray = NDArray[np.int32]
Tick = Sequence[tuple[int, int]]
"""Which sequences bring how many tokens, in the order of the batch."""


@dataclass(frozen=True)
class Mode:
    """A way to compile: exact or not, with which passes, weights held in which format."""

    name: str
    exact: bool = False
    passes: tuple[str, ...] | None = None
    weight_format: Format | None = None

    def __str__(self) -> str:
        return self.name


PLAIN = Mode("plain", exact=True, passes=())
EXACT = Mode("exact", exact=True)
DEFAULT = Mode("default")
INT8 = Mode("int8", weight_format=Format.I8)
EXACT_INT8 = Mode("exact-int8", exact=True, weight_format=Format.I8)


@cache
def model(name: str) -> Model:
    """A fixture."""
    folder = FIXTURES / name
    file = folder / "model.gguf"
    return load(file if file.exists() else folder)


@cache
def program(name: str, mode: Mode) -> Program:
    """A fixture's program."""
    return compile(
        model(name), exact=mode.exact, weight_format=mode.weight_format, passes=mode.passes
    )


def expected(name: str) -> Mapping[str, NDArray[np.generic]]:
    """What transformers gives for a fixture; one made from another has the other's."""
    folder = FIXTURES / name
    if not (folder / "expected.npz").exists():
        folder = FIXTURES / name.removesuffix("-gguf")
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays)


def reference(name: str, mode: Mode, kv: KvFormat = "f16") -> ReferenceMachine:
    """A reference machine with a fixture's program."""
    machine = ReferenceMachine(kv=kv)
    machine.load(program(name, mode), model(name).weights, pages=PAGES)
    return machine


@cache
def native(
    name: str, mode: Mode, kv: KvFormat = "f16", threads: int = 1, tier: str | None = None
) -> Machine:
    """A native machine with a fixture's program; skips the test if the core is not built."""
    pytest.importorskip("overclock._native")
    from overclock.machine.native import NativeMachine

    machine = NativeMachine(threads, kv=kv, tier=tier)
    machine.load(program(name, mode), model(name).weights, pages=PAGES)
    return machine


def random_ids(name: str, lengths: Sequence[int], seed: int = 0) -> list[IntArray]:
    """Sequences of token ids."""
    generator = np.random.default_rng(seed)
    vocabulary = model(name).config.vocabulary
    return [generator.integers(0, vocabulary, length).astype(np.int32) for length in lengths]


def page_table(lengths: Sequence[int], order: Sequence[int] | None = None) -> IntArray:
    """Pages for sequences of these lengths, taken from `order` one after another."""
    counts = [-(-length // PAGE_TOKENS) for length in lengths]
    free = list(range(PAGES) if order is None else order)
    table = np.full((len(lengths), max(counts)), -1, np.int32)
    for row, count in zip(table, counts, strict=True):
        row[:count], free = free[:count], free[count:]
    return table


def starts_of(counts: Sequence[int]) -> IntArray:
    """Where each sequence's rows start, and the end."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def encoder_batch(
    sequences: Sequence[IntArray], output: str, types: Sequence[IntArray] | None = None
) -> Batch:
    """Whole sequences; all rows are output rows."""
    starts = starts_of([len(ids) for ids in sequences])
    return Batch(
        token_ids=np.concatenate(sequences),
        starts=starts,
        contexts=np.zeros(len(sequences), np.int32),
        pages=np.zeros((len(sequences), 0), np.int32),
        output_rows=np.arange(starts[-1], dtype=np.int32),
        output=output,
        token_types=None if types is None else np.concatenate(types),
    )


def decoder_batch(
    sequences: Sequence[IntArray], done: Sequence[int], table: IntArray, tick: Tick
) -> Batch:
    """The pieces of `tick` after `done` tokens of each sequence; all rows are output rows."""
    chosen = [index for index, _ in tick]
    starts = starts_of([count for _, count in tick])
    return Batch(
        token_ids=np.concatenate([sequences[i][done[i] : done[i] + n] for i, n in tick]),
        starts=starts,
        contexts=np.array([done[i] for i in chosen], np.int32),
        pages=table[chosen],
        output_rows=np.arange(starts[-1], dtype=np.int32),
        output="logits",
    )


def feed(
    machine: Machine,
    sequences: Sequence[IntArray],
    ticks: Sequence[Tick] | None = None,
    order: Sequence[int] | None = None,
) -> list[Array]:
    """The logits of every token of every sequence, ``f32[T, V]`` each.

    The sequences are fed as `ticks` say (None: all at once), with KV pages in this `order`.
    """
    table = page_table([len(ids) for ids in sequences], order)
    done, pieces = [0] * len(sequences), [[np.zeros((0, 0), np.float32)] for _ in sequences]
    for tick in ticks or [[(i, len(ids)) for i, ids in enumerate(sequences)]]:
        logits = machine.run(decoder_batch(sequences, done, table, tick))
        for index, count in tick:
            pieces[index].append(logits[:count])
            logits, done[index] = logits[count:], done[index] + count
    return [np.concatenate(parts[1:]) for parts in pieces]


@st.composite
def schedules(draw: st.DrawFn, lengths: Sequence[int]) -> list[Tick]:
    """Ticks that feed sequences of these lengths to their ends, in any pieces and company."""
    left = list(lengths)
    ticks: list[Tick] = []
    while any(left):
        waiting = [index for index, count in enumerate(left) if count]
        order = draw(st.permutations(waiting))
        chosen = order[: draw(st.integers(1, len(order)))]
        tick = [(index, draw(st.integers(1, left[index]))) for index in chosen]
        for index, count in tick:
            left[index] -= count
        ticks.append(tick)
    return ticks


page_orders = st.permutations(range(PAGES))


def spread(values: Array) -> float:
    """The standard deviation, what an error is measured by."""
    return float(values.std())


def assert_near(values: Array, wanted: NDArray[np.generic], share: float) -> None:
    """No value is further from the wanted one than this share of the spread."""
    array = np.asarray(wanted, np.float32)
    assert values.shape == array.shape
    error = float(np.abs(values - array).max())
    assert error <= share * spread(array), f"off by {error / spread(array):.2e} of the spread"


def assert_alike(values: Array, wanted: Array, share: float) -> None:
    """The errors' standard deviation is at most this share of the spread.

    For values behind a rounding: where two machines' sums differ in their last bit, one number in
    many thousands is rounded to the other neighbour, and moves what follows by more than any limit
    for a single value would allow.
    """
    assert values.shape == wanted.shape
    error = spread(values - wanted)
    assert error <= share * spread(wanted), f"off by {error / spread(wanted):.2e} of the spread"
