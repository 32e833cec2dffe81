"""Refuses a program that is not well formed, before any machine runs it.

First the buffers by themselves, then the instructions in order: operands, attributes, the rule of
the opcode, what may be written, and that nothing is read before it is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from overclock.errors import ProgramError
from overclock.model.formats import LAYOUTS, Format
from overclock.program.isa import OPTIONAL_ATTRIBUTES, SIGNATURES, Op
from overclock.program.program import Buffer, Element, Kind, Operand, Program, Rows
from overclock.program.rules import (
    CHOICES,
    IN_PLACE,
    LEAST,
    MATRICES,
    MAY_WRITE_I8,
    READS_I8,
    ROWS,
    RULES,
    VECTORS,
    WRITES_I8,
    Case,
)
from overclock.program.weights import is_quantized

INPUTS = ("token_ids", "positions", "token_types")
"""The integers that a batch brings."""

LARGEST = 1 << 40
"""Sizes stay below this, so that no machine's arithmetic on them overflows."""

WIDEST = 1 << 31
"""Rows and columns stay below this."""


def verify(program: Program) -> None:
    """Check everything that a machine relies on.

    Raises ProgramError with one sentence that names the buffer, or the instruction with its index,
    opcode and the shapes of its operands.
    """
    _check_program(program)
    for name, buffer in program.buffers.items():
        _check_buffer(program, name, buffer)
    written = _Written()
    for index, instruction in enumerate(program.instructions):
        case = Case(program, index, instruction)
        _check_operands(case)
        _check_attributes(case)
        _check_types(case)
        RULES[instruction.op](case)
        _check_rows(case)
        _check_aliases(case)
        written.check(case)
    _check_outputs(program, written)


# -- the program and its buffers --------------------------------------------------------------


def _check_program(program: Program) -> None:
    for what, size in (("context", program.context), ("vocabulary", program.vocabulary)):
        if not 0 < size < WIDEST:
            raise ProgramError(f"{program.name}: a {what} of {size} is not possible")
    if not program.instructions or not program.outputs:
        raise ProgramError(f"{program.name} has no instructions or no outputs: nothing to run")


def _check_buffer(program: Program, name: str, buffer: Buffer) -> None:
    problem = _common_problem(name, buffer) or _PROBLEMS[buffer.kind](program, buffer)
    if problem:
        raise ProgramError(f"buffer {name} of {program.name} {problem}")


def _common_problem(name: str, buffer: Buffer) -> str | None:
    if buffer.name != name:
        return f"calls itself {buffer.name}"
    if not 0 < buffer.columns < WIDEST:
        return f"has {buffer.columns} columns"
    has_rows = buffer.kind in (Kind.INPUT, Kind.ACTIVATION)
    if has_rows != (buffer.rows is not None):
        return f"is of kind {buffer.kind} and has the rows {buffer.rows}"
    if buffer.element is not Element.F32 and buffer.kind is not Kind.ACTIVATION:
        return f"is of kind {buffer.kind}, which cannot hold {buffer.element}"
    if any(size <= 0 for size in buffer.shape) or math.prod(buffer.shape) >= LARGEST:
        return f"has the impossible shape {list(buffer.shape)}"
    return None


def _input_problem(program: Program, buffer: Buffer) -> str | None:
    if buffer.name not in INPUTS:
        return f"is an input that no batch has; the inputs are {', '.join(INPUTS)}"
    if buffer.columns != 1 or buffer.rows is not Rows.TOKENS:
        return f"is an input of {buffer.columns} columns and {buffer.rows} rows, not of 1 and T"
    return None


def _weight_problem(program: Program, buffer: Buffer) -> str | None:
    if len(buffer.shape) not in (1, 2) or buffer.columns != buffer.shape[-1]:
        return f"is a weight of shape {list(buffer.shape)} with {buffer.columns} columns"
    if buffer.shape[0] >= WIDEST:
        return f"has {buffer.shape[0]} rows"
    if len(buffer.shape) == 1 and buffer.format is not Format.F32:
        return f"has one dimension, so it must be held as F32, not {buffer.format}"
    elements = 1 if buffer.format is Format.I8 else LAYOUTS[buffer.format].elements
    if buffer.columns % elements:
        return f"has {buffer.columns} columns, no multiple of the {elements} of {buffer.format}"
    return None


def _constant_problem(program: Program, buffer: Buffer) -> str | None:
    values = program.constants.get(buffer.name)
    if values is None or len(values) != buffer.columns or buffer.shape != (buffer.columns,):
        return f"has {len(values or ())} values for {buffer.columns} columns"
    return None if all(map(math.isfinite, values)) else "holds a number that is not finite"


def _activation_problem(program: Program, buffer: Buffer) -> str | None:
    return f"is an activation with the shape {list(buffer.shape)}" if buffer.shape else None


def _cache_problem(program: Program, buffer: Buffer) -> str | None:
    if len(buffer.shape) != 2 or math.prod(buffer.shape) != buffer.columns:
        return f"is a cache of shape {list(buffer.shape)} with {buffer.columns} columns"
    return None


_PROBLEMS = {
    Kind.INPUT: _input_problem,
    Kind.WEIGHT: _weight_problem,
    Kind.CONSTANT: _constant_problem,
    Kind.ACTIVATION: _activation_problem,
    Kind.CACHE: _cache_problem,
}


# -- one instruction --------------------------------------------------------------------------


def _check_operands(case: Case) -> None:
    """Roles are those of the opcode, buffers exist, slices lie inside."""
    signature = SIGNATURES[case.instruction.op]
    for given, known in (
        (case.instruction.inputs, signature.inputs),
        (case.instruction.outputs, signature.outputs),
    ):
        roles = {role.rstrip("?*"): role for role in known}
        for role in given:
            if role not in roles:
                case.fail(f"the opcode has no operand {role}")
        for role, spelled in roles.items():
            count = len(given.get(role, ()))
            if not count and ("?" not in spelled or role in given):
                case.fail(f"no {role}")
            if count > 1 and "*" not in spelled:
                case.fail(f"{role} takes one operand, not {count}")
    for operand in _operands(case):
        _check_slice(case, operand)


def _operands(case: Case) -> Iterator[Operand]:
    yield from case.instruction.reads()
    yield from case.instruction.writes()


def _check_slice(case: Case, operand: Operand) -> None:
    buffer = case.program.buffers.get(operand.buffer)
    if buffer is None:
        case.fail(f"there is no buffer {operand.buffer}")
    stop = buffer.columns if operand.stop is None else operand.stop
    if not 0 <= operand.start < stop <= buffer.columns:
        case.fail(f"{operand} is not inside the {buffer.columns} columns of its buffer")
    is_part = operand.start != 0 or stop != buffer.columns
    if is_part and (buffer.kind is not Kind.ACTIVATION or buffer.element.terms):
        case.fail(f"{operand} is a part of a buffer that can only be used whole")


def _check_attributes(case: Case) -> None:
    """Attributes are those of the opcode, of their type and within bounds."""
    known = SIGNATURES[case.instruction.op].attributes
    for name in case.instruction.attributes:
        if name not in known:
            case.fail(f"the opcode has no attribute {name}")
    for name, wanted in known.items():
        if name not in case.instruction.attributes and name not in OPTIONAL_ATTRIBUTES:
            case.fail(f"the attribute {name} is missing")
        value = case.instruction.attribute(name)
        if type(value) is not wanted:
            case.fail(f"{name} must be {wanted.__name__}, not {value!r}")
        if isinstance(value, str) and name in CHOICES:
            if value not in CHOICES[name]:
                case.fail(f"{name} must be one of {', '.join(CHOICES[name])}, not {value!r}")
        elif isinstance(value, int | float):
            _check_number(case, name, value)


def _check_number(case: Case, name: str, value: float) -> None:
    least = LEAST.get(name, -math.inf)
    if not math.isfinite(value) or not least <= value < WIDEST:
        case.fail(f"{name} cannot be {value}")


def _check_types(case: Case) -> None:
    """Each operand is of the kind that its role wants, and int8 only where it may be."""
    op = case.instruction.op
    for role, operands in case.instruction.inputs.items():
        for operand in operands:
            _check_kind(case, role, operand)
            if case.buffer(operand).element.terms and (op, role) not in READS_I8:
                case.fail(f"{role} cannot be int8")
            if case.buffer(operand).element is Element.I8X2 and op is not Op.MATMUL:
                case.fail(f"{role} cannot be two int8 terms")
    for role, operands in case.instruction.outputs.items():
        for operand in operands:
            _check_kind(case, role, operand)
            if case.buffer(operand).element.terms:
                case.expect((op, role) in WRITES_I8 | MAY_WRITE_I8, f"{role} cannot be int8")
                if case.buffer(operand).element is Element.I8X2:
                    case.expect((op, role) in WRITES_I8, f"{role} cannot be two int8 terms")
            else:
                case.expect((op, role) not in WRITES_I8, f"{role} must be int8")
    _check_integer_product(case)


def _check_kind(case: Case, role: str, operand: Operand) -> None:
    buffer, op = case.buffer(operand), case.instruction.op
    dimensions = len(buffer.shape)
    if (op, role) in MATRICES:
        fits, wanted = buffer.kind is Kind.WEIGHT and dimensions == 2, "a weight of two dimensions"
    elif (op, role) in VECTORS:
        fits, wanted = buffer.kind is Kind.WEIGHT and dimensions == 1, "a weight of one dimension"
    elif op is Op.ADD and role == "b" and buffer.kind is Kind.WEIGHT:
        fits, wanted = dimensions == 1, "an activation or a weight of one dimension"
    else:
        kind = _KINDS.get(role, Kind.ACTIVATION)
        fits, wanted = buffer.kind is kind, "of kind " + kind
    if not fits:
        case.fail(f"{role} must be {wanted}, but {operand} is of kind {buffer.kind}")


_KINDS = {"ids": Kind.INPUT, "frequencies": Kind.CONSTANT, "cache": Kind.CACHE}


def _check_integer_product(case: Case) -> None:
    """int8 activations need integer weights, and a program that is not exact."""
    if case.instruction.op not in (Op.MATMUL, Op.GATED_MATMUL):
        return
    if case.buffer(case.operands("x")[0]).element is Element.F32:
        return
    case.expect(not case.program.exact, "x is int8, but the program is exact")
    for role in ("w", "gate", "up"):
        for operand in case.operands(role):
            if not is_quantized(case.buffer(operand)):
                case.fail(f"x is int8, so {role} {operand} cannot be floating point")


def _check_rows(case: Case) -> None:
    """Activations have the same rows, or those that the opcode gives."""
    inputs = {role: _rows(case, role) for role in case.instruction.inputs}
    outputs = {role: _rows(case, role) for role in case.instruction.outputs}
    found = next((rows for each in inputs.values() for rows in each), Rows.TOKENS)
    before, after = ROWS.get(case.instruction.op, (found, found))
    for given, wanted in ((inputs, before), (outputs, after)):
        for role, all_rows in given.items():
            for rows in all_rows:
                if rows is not wanted:
                    case.fail(f"{role} has {rows} rows where {wanted} are wanted")


def _rows(case: Case, role: str) -> list[Rows]:
    found = (case.buffer(operand).rows for operand in case.operands(role))
    return [rows for rows in found if rows is not None]


def _check_aliases(case: Case) -> None:
    """An output may be an input only as a whole and only where the opcode allows it."""
    outputs = [(role, o) for role, given in case.instruction.outputs.items() for o in given]
    allowed = IN_PLACE.get(case.instruction.op, frozenset())
    for number, (role, output) in enumerate(outputs):
        for other, operand in outputs[:number]:
            if _overlap(case, output, operand):
                case.fail(f"{role} and {other} overlap")
        for source, given in case.instruction.inputs.items():
            for operand in given:
                if _overlap(case, output, operand):
                    same = _columns(case, output) == _columns(case, operand)
                    case.expect(same and (role, source) in allowed, f"{role} overlaps {source}")


def _columns(case: Case, operand: Operand) -> tuple[int, int]:
    return operand.start, operand.start + case.program.columns(operand)


def _overlap(case: Case, a: Operand, b: Operand) -> bool:
    if a.buffer != b.buffer:
        return False
    (start, stop), (other_start, other_stop) = _columns(case, a), _columns(case, b)
    return start < other_stop and other_start < stop


# -- in order ---------------------------------------------------------------------------------


class _Written:
    """Which columns of which buffers have been written so far."""

    def __init__(self) -> None:
        self._columns: dict[str, list[tuple[int, int]]] = {}

    def check(self, case: Case) -> None:
        """What is read has been written; take note of what is written."""
        for operand in case.instruction.reads():
            is_made = case.buffer(operand).kind in (Kind.ACTIVATION, Kind.CACHE)
            if is_made and not self.has(operand.buffer, *_columns(case, operand)):
                case.fail(f"{operand} is read before it is written")
        for operand in case.instruction.writes():
            if operand.buffer in self._columns and case.buffer(operand).kind is Kind.CACHE:
                case.fail(f"{operand} is stored to for the second time")
            self._add(operand.buffer, *_columns(case, operand))

    def has(self, buffer: str, start: int, stop: int) -> bool:
        """Whether all of the columns have been written."""
        return any(a <= start and stop <= b for a, b in self._columns.get(buffer, ()))

    def _add(self, buffer: str, start: int, stop: int) -> None:
        """Note a stretch of columns; stretches that touch become one."""
        apart = []
        for a, b in self._columns.get(buffer, ()):
            if b < start or stop < a:
                apart.append((a, b))
            else:
                start, stop = min(a, start), max(b, stop)
        self._columns[buffer] = [*apart, (start, stop)]


def _check_outputs(program: Program, written: _Written) -> None:
    for name, operand in program.outputs.items():
        problem = _output_problem(program, written, operand)
        if problem:
            raise ProgramError(f"output {name} of {program.name} is {operand}, {problem}")


def _output_problem(program: Program, written: _Written, operand: Operand) -> str | None:
    buffer = program.buffers.get(operand.buffer)
    if buffer is None:
        return "which is no buffer"
    if buffer.kind is not Kind.ACTIVATION or buffer.element is not Element.F32:
        return f"which is no f32 activation but {buffer.kind} {buffer.element}"
    stop = buffer.columns if operand.stop is None else operand.stop
    if not 0 <= operand.start < stop <= buffer.columns:
        return f"which is not inside the {buffer.columns} columns of its buffer"
    if not written.has(operand.buffer, operand.start, stop):
        return "which no instruction writes"
    return None
