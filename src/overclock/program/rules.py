"""What each opcode demands of its operands: one short rule an opcode, read by the verifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from overclock.errors import ProgramError
from overclock.program import describe
from overclock.program.isa import ACTIVATIONS, METHODS, STYLES, Op
from overclock.program.program import Buffer, Instruction, Operand, Program, Rows

MATRICES = frozenset(
    {(Op.EMBED, "table"), (Op.MATMUL, "w"), (Op.GATED_MATMUL, "gate"), (Op.GATED_MATMUL, "up")}
)
"""Operands that are weights of two dimensions."""

VECTORS = frozenset(
    {
        (Op.RMSNORM, "w"),
        (Op.LAYERNORM, "w"),
        (Op.LAYERNORM, "b"),
        (Op.MATMUL, "bias"),
        (Op.ROPE_STORE, "q_norm"),
        (Op.ROPE_STORE, "k_norm"),
    }
)
"""Operands that are weights of one dimension."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "activation": ACTIVATIONS,
    "style": STYLES,
    "method": METHODS,
}
"""The values of attributes that are words."""

LEAST = {"heads": 1, "kv_heads": 1, "window": 0, "offset": 0, "epsilon": 0.0}
"""The smallest value of attributes that are numbers."""

READS_I8 = frozenset({(Op.MATMUL, "x"), (Op.GATED_MATMUL, "x")})
"""Inputs that may be int8."""

WRITES_I8 = frozenset({(Op.QUANTIZE, "y"), (Op.RMSNORM, "q"), (Op.LAYERNORM, "q")})
"""Outputs that must be int8."""

MAY_WRITE_I8 = frozenset(
    (op, "y")
    for op in (
        Op.MATMUL,
        Op.GATED_MATMUL,
        Op.ATTEND,
        Op.ATTEND_ALL,
        Op.ACTIVATE,
        Op.GATE,
    )
)
"""Outputs that may be f32 or int8."""

IN_PLACE: Mapping[Op, frozenset[tuple[str, str]]] = {
    Op.ADD: frozenset({("y", "a"), ("y", "b")}),
    Op.RMSNORM: frozenset({("y", "x")}),
    Op.LAYERNORM: frozenset({("y", "x")}),
    Op.MATMUL: frozenset({("y", "residual")}),
    Op.ADAPT: frozenset({("y", "a")}),
    Op.ACTIVATE: frozenset({("y", "x")}),
    Op.GATE: frozenset({("y", "gate"), ("y", "up")}),
    Op.ROPE: frozenset({("y", "x")}),
    Op.ROPE_STORE: frozenset({("y", "q")}),
    Op.NORMALIZE: frozenset({("y", "x")}),
}
"""Which output may be the very same operand as which input."""

ROWS: Mapping[Op, tuple[Rows, Rows]] = {
    Op.EMBED: (Rows.TOKENS, Rows.TOKENS),
    Op.ROPE: (Rows.TOKENS, Rows.TOKENS),
    Op.STORE: (Rows.TOKENS, Rows.TOKENS),
    Op.ROPE_STORE: (Rows.TOKENS, Rows.TOKENS),
    Op.ATTEND: (Rows.TOKENS, Rows.TOKENS),
    Op.ATTEND_ALL: (Rows.TOKENS, Rows.TOKENS),
    Op.SELECT: (Rows.TOKENS, Rows.SELECTED),
    Op.POOL: (Rows.TOKENS, Rows.SEQUENCES),
}
"""The rows of the inputs and outputs of opcodes that are not free in this."""


@dataclass(frozen=True, slots=True)
class Case:
    """One instruction of a program, for the rules to look at."""

    program: Program
    index: int
    instruction: Instruction

    def fail(self, problem: str) -> NoReturn:
        """Raise ProgramError with the instruction, its index and the shapes of its operands."""
        text = describe.instruction(self.program, self.instruction)
        raise ProgramError(f"instruction {self.index} of {self.program.name}: {problem}; {text}")

    def expect(self, holds: bool, problem: str) -> None:
        """Fail unless `holds`."""
        if not holds:
            self.fail(problem)

    def operands(self, role: str) -> tuple[Operand, ...]:
        """The operands of an input or output role, none if it is left out."""
        return self.instruction.inputs.get(role) or self.instruction.outputs.get(role) or ()

    def buffer(self, operand: Operand) -> Buffer:
        """The operand's buffer."""
        return self.program.buffers[operand.buffer]

    def columns(self, role: str) -> int:
        """Columns of all operands of a role together."""
        return sum(self.program.columns(operand) for operand in self.operands(role))

    def shape(self, role: str) -> tuple[int, ...]:
        """Shape of the buffer of a role's first operand."""
        return self.buffer(self.operands(role)[0]).shape

    def number(self, attribute: str) -> int:
        """A whole-number attribute, whose type has been checked."""
        value = self.instruction.attribute(attribute)
        assert isinstance(value, int), f"{attribute} is {value!r}"
        return value

    def expect_columns(self, role: str, columns: int, because: str) -> None:
        """Fail unless a role that is given has so many columns."""
        given = self.columns(role)
        if self.operands(role) and given != columns:
            self.fail(f"{role} has {given} columns, but {because} asks for {columns}")

    def expect_heads(self, role: str, attribute: str = "heads") -> int:
        """The width of a head of `role`; fails if its columns are no multiple of the heads."""
        heads, columns = self.number(attribute), self.columns(role)
        if columns % heads:
            self.fail(f"{role} has {columns} columns, which {heads} heads do not divide")
        return columns // heads


def _embed(case: Case) -> None:
    rows, columns = case.shape("table")
    case.expect_columns("y", columns, "the table")
    needed = {
        "token_ids": case.program.vocabulary,
        "positions": case.program.context,
        "token_types": 1,
    }[case.operands("ids")[0].buffer] + case.number("offset")
    if rows < needed:
        case.fail(f"the table has {rows} rows, but ids plus offset need {needed}")


def _add(case: Case) -> None:
    columns = case.columns("a")
    case.expect_columns("b", columns, "a")
    case.expect_columns("y", columns, "a")


def _rmsnorm(case: Case) -> None:
    case.expect_columns("w", case.expect_heads("x"), "a head of x")
    _normalised(case)


def _layernorm(case: Case) -> None:
    for role in ("w", "b"):
        case.expect_columns(role, case.columns("x"), "x")
    _normalised(case)


def _normalised(case: Case) -> None:
    case.expect(bool(case.instruction.outputs), "it has neither of the outputs y and q")
    for role in ("y", "q"):
        case.expect_columns(role, case.columns("x"), "x")


def _same_columns(case: Case) -> None:
    case.expect_columns("y", case.columns("x"), "x")


def _matmul(case: Case) -> None:
    _product(case, "w")
    rows = sum(case.buffer(operand).shape[0] for operand in case.operands("w"))
    for role in ("bias", "residual", "y"):
        case.expect_columns(role, rows, "w")


def _gated_matmul(case: Case) -> None:
    _product(case, "gate", "up")
    gate, up = case.shape("gate")[0], case.shape("up")[0]
    case.expect(gate == up, f"gate has {gate} rows, but up has {up}")
    case.expect_columns("y", gate, "gate")


def _product(case: Case, *roles: str) -> None:
    columns = case.columns("x")
    for role in roles:
        for operand in case.operands(role):
            given = case.buffer(operand).columns
            if given != columns:
                case.fail(f"{role} {operand} has {given} columns, but x has {columns}")


def _adapt(case: Case) -> None:
    case.expect_columns("y", case.columns("a"), "a")
    rows = case.buffer(case.operands("y")[0]).rows
    case.expect(rows is not Rows.SEQUENCES, "adapters change rows of tokens, not of sequences")
    case.expect(bool(case.instruction.attribute("site")), "its site has no name")


def _gate(case: Case) -> None:
    case.expect_columns("up", case.columns("gate"), "gate")
    case.expect_columns("y", case.columns("gate"), "gate")


def _rope(case: Case) -> None:
    _turns(case, case.expect_heads("x"))
    case.expect_columns("y", case.columns("x"), "x")


def _turns(case: Case, head: int) -> None:
    given = case.columns("frequencies")
    case.expect(2 * given == head, f"{given} frequencies do not turn the {head} columns of a head")


def _store(case: Case) -> None:
    _stored(case, case.number("heads"))


def _stored(case: Case, heads: int) -> None:
    kv_heads, head = case.shape("cache")
    case.expect(kv_heads == heads, f"the cache has {kv_heads} heads, not {heads}")
    for role in ("k", "v"):
        case.expect_columns(role, kv_heads * head, "the cache")


def _rope_store(case: Case) -> None:
    _stored(case, case.number("kv_heads"))
    head = case.expect_heads("q")
    _heads_match(case, head)
    _turns(case, head)
    for role in ("q_norm", "k_norm"):
        case.expect_columns(role, head, "a head")
    case.expect_columns("y", case.columns("q"), "q")


def _attend(case: Case) -> None:
    head = case.expect_heads("q")
    kv_heads = case.shape("cache")[0]
    given = case.number("kv_heads")
    case.expect(kv_heads == given, f"the cache has {kv_heads} heads, not {given}")
    _heads_match(case, head)
    case.expect_columns("y", case.columns("q"), "q")


def _heads_match(case: Case, head: int) -> None:
    """Heads of q and of the cache must have one width, and share evenly."""
    kv_heads, kv_head = case.shape("cache")
    case.expect(kv_head == head, f"heads of q have {head} columns, those of the cache {kv_head}")
    heads = case.number("heads")
    case.expect(heads % kv_heads == 0, f"{kv_heads} heads of k do not divide {heads} heads of q")


def _attend_all(case: Case) -> None:
    case.expect_heads("q")
    for role in ("k", "v", "y"):
        case.expect_columns(role, case.columns("q"), "q")


RULES: Mapping[Op, Callable[[Case], None]] = {
    Op.EMBED: _embed,
    Op.ADD: _add,
    Op.RMSNORM: _rmsnorm,
    Op.LAYERNORM: _layernorm,
    Op.QUANTIZE: _same_columns,
    Op.MATMUL: _matmul,
    Op.GATED_MATMUL: _gated_matmul,
    Op.ADAPT: _adapt,
    Op.ACTIVATE: _same_columns,
    Op.GATE: _gate,
    Op.ROPE: _rope,
    Op.STORE: _store,
    Op.ROPE_STORE: _rope_store,
    Op.ATTEND: _attend,
    Op.ATTEND_ALL: _attend_all,
    Op.SELECT: _same_columns,
    Op.POOL: _same_columns,
    Op.NORMALIZE: _same_columns,
}
"""The rule of each opcode; kinds, types and bounds of its operands have been checked before."""
