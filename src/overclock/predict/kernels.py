"""What an instruction's time depends on: which kernel it is, and how much work a batch brings it.

Instructions of one kernel (the same key) differ by sizes alone. A kernel that works row by row has
a time that is linear in its sizes at any fixed number of rows, and bends as rows fill tiles and
share weights, so it is measured at many numbers of rows (`RowWork`). Attention depends on the
lengths and contexts of all sequences and is linear in sums over them (`AttendWork`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overclock.program.cost import kv_token_bytes
from overclock.program.isa import Op
from overclock.program.program import (
    PAGE_TOKENS,
    Buffer,
    Instruction,
    Kind,
    KvFormat,
    Operand,
    Program,
    Rows,
)
from overclock.program.weights import weight_bytes

PANEL = 32
"""Output columns of a packed matrix that are computed together (cpp/core/layout.h)."""

QUERY_ROWS = 24
"""Query rows of a unit of attention (cpp/kernels/attend.h)."""

TILE_ROWS = 6
"""Query rows that share a pass over keys and values."""

CHUNK = 256
"""Positions of a chunk of attention; few units over several chunks are split among threads."""

Ints = NDArray[np.int64]
Features = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lengths:
    """A batch as far as times depend on it.

    lengths, contexts: ``i64[S]``, new tokens of each sequence and those it has already
    selected: rows whose output is wanted
    """

    lengths: Ints
    contexts: Ints
    selected: int

    @classmethod
    def of(cls, lengths: object, contexts: object, selected: int) -> Lengths:
        """From anything that makes arrays of whole numbers."""
        return cls(np.asarray(lengths, np.int64), np.asarray(contexts, np.int64), selected)

    @property
    def tokens(self) -> int:
        """All new tokens, T."""
        return int(self.lengths.sum())

    def rows(self, kind: Rows) -> int:
        """How many rows an activation of this kind has."""
        if kind is Rows.TOKENS:
            return self.tokens
        return self.selected if kind is Rows.SELECTED else len(self.lengths)


@dataclass(frozen=True, slots=True)
class RowWork:
    """An instruction that works row by row.

    sizes: what its time is linear in at a fixed number of rows, after a constant
    weight_bytes: of the matrices that every run reads
    units: pieces that threads share at one block of rows; 0 if they share rows
    is_int8: whether its products are of int8 numbers
    """

    key: str
    rows: Rows
    sizes: tuple[float, ...]
    weight_bytes: int
    units: int
    is_int8: bool = False


@dataclass(frozen=True, slots=True)
class AttendWork:
    """Attention over KV pages.

    shared: query heads of a KV head; token_bytes: K and V of one token in this layer
    """

    key: str
    kv_heads: int
    shared: int
    head_dim: int
    window: int
    token_bytes: int

    def features(self, load: Lengths, threads: int) -> Features:
        """``f64[8]``, all but the first two of the busiest thread.

        1, split or not, pieces, tiles · positions · columns, the same of first chunks alone (whose
        keys nobody has asked for ahead), tiles · positions, rows · positions · columns, rows ·
        positions. A piece is a unit, or one chunk of it if threads share the chunks of units.
        """
        rows, seen = self._units(load)
        splits = self._splits(len(rows) * self.kv_heads, load, threads)
        sizes = self._chunked(rows, seen) if splits else self._sizes(rows, seen)
        return np.array([1.0, float(splits), *_busiest(sizes, self.kv_heads, threads)])

    def positions(self, load: Lengths) -> int:
        """Positions of all sequences whose K and V are read."""
        seen = load.contexts + load.lengths
        if self.window:
            seen = np.minimum(seen, self.window + load.lengths - 1)
        return int(seen.sum())

    def kv_bytes(self, load: Lengths) -> int:
        """Bytes of K and V that a run reads."""
        return self.token_bytes * self.positions(load)

    def _splits(self, units: int, load: Lengths, threads: int) -> bool:
        return threads > 1 and units < 4 * threads and self._chunks(load) > 1

    def _chunks(self, load: Lengths) -> int:
        return int(-(-int((load.contexts + load.lengths).max()) // CHUNK))

    def _units(self, load: Lengths) -> tuple[Ints, Ints]:
        """Query rows of each unit of one KV head, and the positions that it goes through."""
        block = max(1, QUERY_ROWS // self.shared)
        counts = -(-load.lengths // block)
        first = block * (np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts))
        tokens = np.minimum(block, np.repeat(load.lengths, counts) - first)
        seen = np.repeat(load.contexts, counts) + first + tokens
        if self.window:
            seen = np.minimum(seen, self.window + tokens - 1)
        return tokens * self.shared, -(-seen // PAGE_TOKENS) * PAGE_TOKENS

    def _sizes(self, rows: Ints, seen: Ints) -> Features:
        """``f64[units, 6]``: what each unit brings of each feature."""
        tiles = -(-rows // TILE_ROWS)
        return _sizes(tiles, rows, seen, np.minimum(seen, CHUNK), self.head_dim)

    def _chunked(self, rows: Ints, seen: Ints) -> Features:
        """``f64[pieces, 6]``: the same of each chunk of each unit."""
        starts = CHUNK * np.arange(-(-int(seen.max()) // CHUNK))
        each = np.clip(seen[:, None] - starts, 0, CHUNK)
        is_there = each > 0
        owner, place = np.nonzero(is_there)
        positions = each[is_there]
        tiles = -(-rows // TILE_ROWS)
        fresh = np.where(place == 0, positions, 0)
        return _sizes(tiles[owner], rows[owner], positions, fresh, self.head_dim)


def _sizes(tiles: Ints, rows: Ints, positions: Ints, first: Ints, columns: int) -> Features:
    parts = (
        np.ones(len(rows)),
        tiles * positions * columns,
        tiles * first * columns,
        tiles * positions,
        rows * positions * columns,
        rows * positions,
    )
    return np.stack(parts, axis=1).astype(np.float64)


def _busiest(sizes: Features, copies: int, threads: int) -> Features:
    """Column sums of the thread that has most, if pieces ``f64[n, k]`` are there `copies` times.

    The threads' mean, or more where pieces are few: of the m · t + 1 largest some thread has m + 1.
    It is exact for equal pieces, and never falls when a piece grows or one more comes.
    """
    falling = -np.sort(-sizes, axis=0)
    ranks = np.arange(0, copies * len(sizes), threads)
    least = falling[ranks // copies] * np.arange(1, len(ranks) + 1)[:, None]
    mean = copies * sizes.sum(axis=0) / threads
    busiest: Features = np.maximum(mean, least.max(axis=0))
    return busiest


@dataclass(frozen=True, slots=True)
class AttendAllWork:
    """Attention of every token of a sequence to all of its tokens."""

    key: str
    heads: int
    head_dim: int

    def features(self, load: Lengths, threads: int) -> Features:
        """``f64[5]``: 1, units, tokens · columns, tokens² · columns, tokens²; of the busiest
        thread.
        """
        lengths = load.lengths.astype(np.float64)
        positions = np.ceil(lengths / PAGE_TOKENS) * PAGE_TOKENS
        pairs = lengths * positions
        parts = (
            np.ones(len(lengths)),
            lengths * self.head_dim,
            pairs * self.head_dim,
            pairs,
        )
        return np.array([1.0, *_busiest(np.stack(parts, axis=1), self.heads, threads)])


Work = RowWork | AttendWork | AttendAllWork


def works(program: Program, kv: KvFormat) -> list[Work]:
    """What each instruction of a program is, in order."""
    return [_work(program, each, kv) for each in program.instructions]


def _work(program: Program, instruction: Instruction, kv: KvFormat) -> Work:
    match instruction.op:
        case Op.MATMUL | Op.GATED_MATMUL:
            return _product(program, instruction)
        case Op.ATTEND:
            return _attend(program, instruction, kv)
        case Op.ATTEND_ALL:
            q = instruction.inputs["q"][0]
            heads = _number(instruction, "heads")
            return AttendAllWork("attend_all", heads, program.columns(q) // heads)
        case _:
            return _rowwise(program, instruction, kv)


def _product(program: Program, instruction: Instruction) -> RowWork:
    roles = ("gate", "up") if instruction.op is Op.GATED_MATMUL else ("w",)
    matrices = [
        program.buffers[operand.buffer] for role in roles for operand in instruction.inputs[role]
    ]
    x = program.buffers[instruction.inputs["x"][0].buffer]
    y = program.buffers[instruction.outputs["y"][0].buffer]
    panels = [-(-matrix.shape[0] // PANEL) for matrix in matrices]
    parts = (
        instruction.op.value,
        matrices[0].format.value,
        x.element.value,
        str(instruction.attribute("activation")),
        "residual" if "residual" in instruction.inputs else "plain",
        y.element.value,
    )
    assert y.rows is not None
    work = float(sum(n * m.columns for n, m in zip(panels, matrices, strict=True)))
    return RowWork(
        "/".join(parts),
        y.rows,
        (float(sum(panels)), work),
        sum(weight_bytes(matrix) for matrix in matrices),
        sum(panels) // len(roles),
        x.element.terms > 0,
    )


def _attend(program: Program, instruction: Instruction, kv: KvFormat) -> AttendWork:
    cache = program.buffers[instruction.inputs["cache"][0].buffer]
    heads, kv_heads = _number(instruction, "heads"), cache.shape[0]
    return AttendWork(
        f"attend/{kv}",
        kv_heads,
        heads // kv_heads,
        cache.columns // kv_heads,
        _number(instruction, "window"),
        kv_token_bytes(cache, kv),
    )


def _rowwise(program: Program, instruction: Instruction, kv: KvFormat) -> RowWork:
    """Whatever goes over rows once: the sum of the columns that it reads and writes counts."""
    operands = [*instruction.reads(), *instruction.writes()]
    columns = sum(
        program.columns(operand)
        for operand in operands
        if program.buffers[operand.buffer].kind in (Kind.ACTIVATION, Kind.CACHE)
    )
    written = next(iter(instruction.writes()))
    parts = [instruction.op.value, *_variant(program, instruction, written)]
    if instruction.op in (Op.STORE, Op.ROPE_STORE):
        parts.append(kv)
    return RowWork("/".join(parts), _rows_of(program, instruction), (float(columns),), 0, 0)


def _variant(program: Program, instruction: Instruction, written: Operand) -> list[str]:
    """What makes another kernel of an opcode that works row by row."""
    parts = [program.buffers[written.buffer].element.value]
    if instruction.op is Op.EMBED:
        parts.append(program.buffers[instruction.inputs["table"][0].buffer].format.value)
    if instruction.op in (Op.RMSNORM, Op.LAYERNORM) and len(instruction.outputs) == 2:
        parts.append("both")
    if instruction.op in (Op.ACTIVATE, Op.GATE):
        parts.append(str(instruction.attribute("activation")))
    return parts


def _rows_of(program: Program, instruction: Instruction) -> Rows:
    """Rows that an instruction goes over: of its output, but all tokens where it pools."""
    if instruction.op is Op.POOL and instruction.attribute("method") == "mean":
        return Rows.TOKENS
    for operand in (*instruction.writes(), *instruction.reads()):
        rows = program.buffers[operand.buffer].rows
        if rows is not None:
            return rows
    return Rows.TOKENS


def _number(instruction: Instruction, attribute: str) -> int:
    value = instruction.attribute(attribute)
    assert isinstance(value, int), f"{attribute} is {value!r}"
    return value


def run_bytes(program: Program, load: Lengths, kinds: Mapping[int, Work]) -> float:
    """Bytes of weights and KV that a run of some instructions (index → work) goes through once."""
    total = 0.0
    seen: set[str] = set()
    for index, work in kinds.items():
        for operand in program.instructions[index].reads():
            buffer = program.buffers[operand.buffer]
            is_read = isinstance(work, RowWork) and work.weight_bytes > 0
            if is_read and _is_matrix(buffer) and buffer.name not in seen:
                seen.add(buffer.name)
                total += weight_bytes(buffer)
        if isinstance(work, AttendWork):
            total += work.kv_bytes(load)
    return total


def _is_matrix(buffer: Buffer) -> bool:
    return buffer.kind is Kind.WEIGHT and len(buffer.shape) == 2
