"""What an instruction costs at best: arithmetic operations and bytes moved, by counting.

Operations: an addition, a multiplication, a comparison, a rounding or an elementary function is
one each, so a product of matrices is two for each pair of numbers. Bytes: every weight is read
once, every activation row is read or written once by each instruction that names it, the KV pages
of a sequence are read once. What a machine does beyond this is its own loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from overclock.errors import InputError
from overclock.program.isa import Op
from overclock.program.program import (
    GROUP,
    GROUP_BYTES,
    Buffer,
    Instruction,
    Kind,
    KvFormat,
    Operand,
    Program,
    Rows,
)
from overclock.program.weights import weight_bytes

ACTIVATION_OPERATIONS: Mapping[str, int] = {
    "none": 0,
    "relu": 1,  # max(x, 0)
    "tanh": 1,
    "silu": 4,  # x / (1 + exp(−x))
    "gelu": 5,  # x · ½ · (1 + erf(x / √2))
    "gelu_tanh": 9,  # x · ½ · (1 + tanh(√(2/π) · (x + 0.044715 · x · x · x)))
}
"""Operations of an activation, a number."""

RMSNORM, LAYERNORM, NORMALIZE = 4, 7, 3
"""Square, sum, factor, w · sum, difference, square, sum, factor, w, b · square, sum, factor."""

ROUNDING = 3
"""Of a number that becomes int8: maximum, factor, rounding."""

ROPE = 3
"""Of a column that is turned: two products and a sum."""

SOFTMAX = 5
"""Of a score: scale, maximum, difference, exponential, sum."""

KV_BYTES: Mapping[KvFormat, int] = {"f32": 4, "f16": 2, "i8": 1}
"""Bytes of one number in a KV page."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a batch brings, as far as the cost depends on it.

    lengths: new tokens of each sequence; contexts: tokens it already has; selected: rows whose
    output is wanted; adapters: number of each sequence's adapter, 0 or an empty tuple for none;
    ranks: of adapters 1, 2 … at each site, 0 where one changes nothing.
    """

    lengths: tuple[int, ...]
    contexts: tuple[int, ...]
    selected: int
    adapters: tuple[int, ...] = ()
    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def prompt(cls, tokens: int) -> Load:
        """One sequence whose first `tokens` tokens arrive at once, to generate the next."""
        return cls((tokens,), (0,), 1)

    @classmethod
    def generation(cls, context: int, sequences: int = 1) -> Load:
        """One token of each of `sequences`, which have `context` tokens already."""
        return cls((1,) * sequences, (context,) * sequences, sequences)

    def rows(self, rows: Rows) -> int:
        """How many rows there are of a kind."""
        counts = {
            Rows.TOKENS: sum(self.lengths),
            Rows.SELECTED: self.selected,
            Rows.SEQUENCES: len(self.lengths),
        }
        return counts[rows]


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations, and bytes by what they are of."""

    operations: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0
    kv_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All bytes."""
        return self.weight_bytes + self.activation_bytes + self.kv_bytes

    def __add__(self, other: Cost) -> Cost:
        """The cost of both."""
        return Cost(
            self.operations + other.operations,
            self.weight_bytes + other.weight_bytes,
            self.activation_bytes + other.activation_bytes,
            self.kv_bytes + other.kv_bytes,
        )


def cost(program: Program, instruction: Instruction, load: Load, kv: KvFormat = "f16") -> Cost:
    """The cost of one instruction of a verified program on a batch."""
    view = _View(program, instruction, load, kv)
    return Cost(
        OPERATIONS[instruction.op](view) + view.rounding(),
        view.weight_bytes(),
        view.activation_bytes(),
        _kv_bytes(view),
    )


def total(program: Program, load: Load, kv: KvFormat = "f16", *, output: str | None = None) -> Cost:
    """The cost of a whole run that computes `output` (None: all outputs).

    Raises InputError for an output that the program does not have.
    """
    parts = (cost(program, program.instructions[i], load, kv) for i in chosen(program, output))
    return sum(parts, Cost())


def chosen(program: Program, output: str | None) -> tuple[int, ...]:
    """Indices of the instructions that `output` needs, of all if it is None."""
    if output is None:
        return tuple(range(len(program.instructions)))
    if output not in program.outputs:
        known = ", ".join(program.outputs)
        raise InputError(f"{program.name} has no output {output!r}; it has {known}")
    return program.needed_for(output)


def generation_bytes(program: Program, context: int, kv: KvFormat = "f16") -> int:
    """Bytes that generating one token must move: weights, and the KV of `context` tokens.

    Activations stay in the processor's caches and are left out. Divided by the read bandwidth it
    is the shortest time of a token, so this is what a share of the limit is measured against.
    """
    spent = total(program, Load.generation(context), kv, output=next(iter(program.outputs)))
    return spent.weight_bytes + spent.kv_bytes


def uses_integers(program: Program, instruction: Instruction) -> bool:
    """Whether the products of an instruction are of int8 numbers."""
    x = instruction.inputs.get("x", ())
    return any(program.buffers[operand.buffer].element.terms for operand in x)


def kv_token_bytes(cache: Buffer, kv: KvFormat) -> int:
    """Bytes of one token's K and V in one layer; int8 has an f32 scale a head beside them."""
    scales = 4 * cache.shape[0] if kv == "i8" else 0
    return 2 * (cache.columns * KV_BYTES[kv] + scales)


def visible(length: int, context: int, window: int) -> int:
    """How many pairs of a new token and a position it sees a sequence has."""
    if not window:
        return length * context + length * (length + 1) // 2
    growing = max(0, min(length, window - context))  # tokens that see all before them
    return growing * context + growing * (growing + 1) // 2 + (length - growing) * window


def span(length: int, context: int, window: int) -> int:
    """How many positions are seen by one of a sequence's new tokens at least."""
    everything = context + length
    return min(everything, window + length - 1) if window else everything


# -- one instruction --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _View:
    """An instruction with what its cost depends on."""

    program: Program
    instruction: Instruction
    load: Load
    kv: KvFormat

    def buffer(self, operand: Operand) -> Buffer:
        return self.program.buffers[operand.buffer]

    def operand(self, role: str) -> Operand:
        return (self.instruction.inputs.get(role) or self.instruction.outputs[role])[0]

    def number(self, attribute: str) -> int:
        value = self.instruction.attribute(attribute)
        assert isinstance(value, int), f"{attribute} is {value!r}"
        return value

    def count(self, role: str) -> int:
        """How many numbers the operand of a role has in this batch; 0 if it is left out."""
        given = self.instruction.inputs.get(role) or self.instruction.outputs.get(role) or ()
        return sum(self.program.columns(o) * self.rows(self.buffer(o)) for o in given)

    def rows(self, buffer: Buffer) -> int:
        return 1 if buffer.rows is None else self.load.rows(buffer.rows)

    def activation(self) -> int:
        """Operations of the attribute `activation` for each number."""
        return ACTIVATION_OPERATIONS[str(self.instruction.attribute("activation"))]

    def rounding(self) -> int:
        """Operations of rounding int8 outputs."""
        rounded = (
            self.program.columns(o) * self.rows(self.buffer(o)) * self.buffer(o).element.terms
            for o in self.instruction.writes()
        )
        return ROUNDING * sum(rounded)

    def weight_bytes(self) -> int:
        """Weights and constants read; of a table only the rows looked up."""
        if self.instruction.op is Op.ADAPT:
            return 4 * self.adapter_columns() * sum(self.ranks().values())
        if self.instruction.op is Op.EMBED:
            tokens = self.load.rows(Rows.TOKENS)
            return weight_bytes(self.buffer(self.operand("table")), tokens)
        buffers = (self.buffer(operand) for operand in self.instruction.reads())
        return sum(
            weight_bytes(each) for each in buffers if each.kind in (Kind.WEIGHT, Kind.CONSTANT)
        )

    def activation_bytes(self) -> int:
        """Rows read and written, and the batch's integers."""
        read = sum(self._row_bytes(o) * self._rows_read(o) for o in self.instruction.reads())
        written = sum(self._row_bytes(o) * self._rows_written(o) for o in self.instruction.writes())
        return read + written

    def ranks(self) -> dict[int, int]:
        """Number of each adapter that changes rows here → its rank."""
        ranks = (0, *self.load.ranks.get(str(self.instruction.attribute("site")), ()))
        used = set(self.load.adapters)
        return {number: rank for number, rank in enumerate(ranks) if rank and number in used}

    def adapter_columns(self) -> int:
        """Columns of an adapter's two matrices together, for each rank."""
        x, y = self.operand("x"), self.operand("y")
        return self.program.columns(x) + self.program.columns(y)

    def adapted_rows(self) -> dict[int, int]:
        """Number of each adapter that changes rows here → those rows.

        Selected rows are taken to be spread evenly over all tokens.
        """
        tokens = dict.fromkeys(self.ranks(), 0)
        for number, length in zip(self.load.adapters, self.load.lengths, strict=False):
            if number in tokens:
                tokens[number] += length
        total, rows = sum(self.load.lengths), self.rows(self.buffer(self.operand("y")))
        return {number: -(-count * rows // total) for number, count in tokens.items()}

    def _is_in_place(self) -> bool:
        return self.instruction.inputs["a"] == self.instruction.outputs["y"]

    def _rows_written(self, operand: Operand) -> int:
        if self.instruction.op is Op.ADAPT and self._is_in_place():
            return sum(self.adapted_rows().values())
        return self.rows(self.buffer(operand))

    def _row_bytes(self, operand: Operand) -> int:
        """Bytes of one row without padding; 0 of what is no activation and no input."""
        buffer = self.buffer(operand)
        if buffer.kind not in (Kind.ACTIVATION, Kind.INPUT):
            return 0
        columns = self.program.columns(operand)
        if buffer.element.terms:
            return buffer.element.terms * (columns + GROUP_BYTES * -(-columns // GROUP))
        return 4 * columns

    def _rows_read(self, operand: Operand) -> int:
        """A selection, or the first of each sequence, reads only the rows it writes.

        So does what adapters change; where that happens in place, other rows are left alone.
        """
        op = self.instruction.op
        if op is Op.ADAPT and (operand == self.operand("x") or self._is_in_place()):
            return sum(self.adapted_rows().values())
        first = op is Op.POOL and self.instruction.attribute("method") == "first"
        source = self.operand("y") if op is Op.SELECT or first else operand
        return self.rows(self.buffer(source))


def _kv_bytes(view: _View) -> int:
    op = view.instruction.op
    if op not in (Op.STORE, Op.ROPE_STORE, Op.ATTEND):
        return 0
    token = kv_token_bytes(view.buffer(view.operand("cache")), view.kv)
    if op is not Op.ATTEND:
        return token * view.load.rows(Rows.TOKENS)
    window = view.number("window")
    sequences = zip(view.load.lengths, view.load.contexts, strict=True)
    return token * sum(span(length, context, window) for length, context in sequences)


def _per_number(role: str, operations: int) -> Callable[[_View], int]:
    """So many operations for each number of a role."""
    return lambda view: operations * view.count(role)


def _embed(view: _View) -> int:
    return 0 if view.instruction.attribute("scale") == 1.0 else view.count("y")


def _matmul(view: _View) -> int:
    y = view.count("y")
    terms = max(1, view.buffer(view.operand("x")).element.terms)
    inner = terms * view.buffer(view.operand("w")).columns
    added = sum(role in view.instruction.inputs for role in ("bias", "residual"))
    return y * (2 * inner + added + view.activation())


def _gated_matmul(view: _View) -> int:
    inner = view.buffer(view.operand("gate")).columns
    return view.count("y") * (4 * inner + view.activation() + 1)


def _adapt(view: _View) -> int:
    """x · Aᵀ and the product of that with Bᵀ, and the sum with a."""
    rows, inner = view.adapted_rows(), view.adapter_columns()
    products = sum(2 * rows[number] * rank * inner for number, rank in view.ranks().items())
    return products + sum(rows.values()) * view.program.columns(view.operand("y"))


def _rope_store(view: _View) -> int:
    norms = sum(
        RMSNORM * view.count(role)
        for role in ("q", "k")
        if f"{role}_norm" in view.instruction.inputs
    )
    return ROPE * (view.count("q") + view.count("k")) + norms


def _attend(view: _View) -> int:
    window = view.number("window")
    sequences = zip(view.load.lengths, view.load.contexts, strict=True)
    return _attention(view, sum(visible(length, past, window) for length, past in sequences))


def _attend_all(view: _View) -> int:
    return _attention(view, sum(length * length for length in view.load.lengths))


def _attention(view: _View, pairs: int) -> int:
    """q·k and p·v are two operations a column each; every head has its own softmax."""
    columns = view.program.columns(view.operand("q"))
    return pairs * (4 * columns + SOFTMAX * view.number("heads"))


def _pool(view: _View) -> int:
    return view.count("x") if view.instruction.attribute("method") == "mean" else 0


OPERATIONS: Mapping[Op, Callable[[_View], int]] = {
    Op.EMBED: _embed,
    Op.ADD: _per_number("y", 1),
    Op.RMSNORM: _per_number("x", RMSNORM),
    Op.LAYERNORM: _per_number("x", LAYERNORM),
    Op.QUANTIZE: _per_number("x", 0),
    Op.MATMUL: _matmul,
    Op.GATED_MATMUL: _gated_matmul,
    Op.ADAPT: _adapt,
    Op.ACTIVATE: lambda view: view.count("x") * view.activation(),
    Op.GATE: lambda view: view.count("y") * (view.activation() + 1),
    Op.ROPE: _per_number("x", ROPE),
    Op.STORE: _per_number("k", 0),
    Op.ROPE_STORE: _rope_store,
    Op.ATTEND: _attend,
    Op.ATTEND_ALL: _attend_all,
    Op.SELECT: _per_number("x", 0),
    Op.POOL: _pool,
    Op.NORMALIZE: _per_number("x", NORMALIZE),
}
"""Operations of each opcode, without the rounding of int8 outputs, which is the same for all."""
