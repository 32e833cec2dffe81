"""A program in full, for reading: every instruction with its operands and its cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from overclock.program import describe
from overclock.program.cost import Cost, Load, chosen, cost
from overclock.program.isa import OPTIONAL_ATTRIBUTES
from overclock.program.plan import plan
from overclock.program.program import Instruction, KvFormat, Operand, Program, Rows

Json = dict[str, object]

LETTERS = "kMGTP"
"""Thousand, million and so on."""


class Listing:
    """A program with the costs of one batch; `output` limits it to what one output needs.

    Raises InputError for an output that the program does not have.
    """

    def __init__(
        self,
        program: Program,
        load: Load,
        *,
        kv: KvFormat = "f16",
        output: str | None = None,
    ) -> None:
        self.program = program
        self.load = load
        self.kv = kv
        listed = [(index, program.instructions[index]) for index in chosen(program, output)]
        self.lines = [(i, each, cost(program, each, load, kv)) for i, each in listed]

    def total(self) -> Cost:
        """The cost of everything listed."""
        return sum((spent for _, _, spent in self.lines), Cost())

    def by_opcode(self) -> dict[str, tuple[int, Cost]]:
        """Opcode → how many there are and what they cost, the one that moves most bytes first."""
        found: dict[str, tuple[int, Cost]] = {}
        for _, instruction, spent in self.lines:
            count, sofar = found.get(instruction.op, (0, Cost()))
            found[instruction.op] = (count + 1, sofar + spent)
        return dict(sorted(found.items(), key=lambda item: -item[1][1].bytes))

    def activation_bytes(self) -> int:
        """Bytes of the memory plan's slots for this batch."""
        return plan(self.program).bytes({rows: self.load.rows(rows) for rows in Rows})

    def text(self) -> str:
        """A table of instructions, a table of totals by opcode, and a line of sums."""
        return "\n".join([*self._head(), "", *self._table(), "", *self._totals(), "", self._sums()])

    def json(self) -> Json:
        """The same as plain values."""
        load = self.load
        return {
            "program": self.program.name,
            "exact": self.program.exact,
            "context": self.program.context,
            "vocabulary": self.program.vocabulary,
            "kv": self.kv,
            "batch": {
                "lengths": list(load.lengths),
                "contexts": list(load.contexts),
                "selected": load.selected,
            },
            "outputs": {
                name: describe.operand(self.program, each)
                for name, each in self.program.outputs.items()
            },
            "instructions": [self._json_line(*line) for line in self.lines],
            "opcodes": {
                op: {"count": count, **_json_cost(spent)}
                for op, (count, spent) in self.by_opcode().items()
            },
            "total": {**_json_cost(self.total()), "activation_memory": self.activation_bytes()},
        }

    # -- inside -------------------------------------------------------------------------------

    def _head(self) -> list[str]:
        load, program = self.load, self.program
        outputs = ", ".join(
            f"{name} {_shape(program, each)}" for name, each in program.outputs.items()
        )
        return [
            f"{program.name}: {len(self.lines)} instructions, "
            f"{'exact' if program.exact else 'default'} mode, outputs {outputs}",
            f"batch: T = {load.rows(Rows.TOKENS)} tokens of S = {len(load.lengths)} sequences with "
            f"{sum(load.contexts)} before them, L = {load.selected} rows selected, KV {self.kv}",
        ]

    def _table(self) -> Iterator[str]:
        rows = [
            (
                str(index),
                instruction.op.value,
                amount(spent.operations),
                amount(spent.bytes),
                f"{_outputs(self.program, instruction)} ← {_inputs(self.program, instruction)}",
            )
            for index, instruction, spent in self.lines
        ]
        head = ("#", "opcode", "operations", "bytes", "operands")
        return _aligned([head, *rows], right={0, 2, 3})

    def _totals(self) -> Iterator[str]:
        rows = [
            (
                op,
                str(count),
                amount(spent.operations),
                amount(spent.weight_bytes),
                amount(spent.activation_bytes),
                amount(spent.kv_bytes),
            )
            for op, (count, spent) in self.by_opcode().items()
        ]
        head = ("opcode", "count", "operations", "weight bytes", "activation bytes", "KV bytes")
        return _aligned([head, *rows], right={1, 2, 3, 4, 5})

    def _sums(self) -> str:
        spent = self.total()
        return (
            f"total: {amount(spent.operations)} operations, {amount(spent.bytes)} bytes "
            f"({amount(spent.weight_bytes)} of weights, {amount(spent.activation_bytes)} of "
            f"activations, {amount(spent.kv_bytes)} of KV); "
            f"activations fit in {amount(self.activation_bytes())} bytes"
        )

    def _json_line(self, index: int, instruction: Instruction, spent: Cost) -> Json:
        return {
            "index": index,
            "opcode": instruction.op.value,
            "layer": instruction.layer,
            "inputs": self._json_roles(instruction.inputs.items()),
            "outputs": self._json_roles(instruction.outputs.items()),
            "attributes": dict(instruction.attributes),
            **_json_cost(spent),
        }

    def _json_roles(self, roles: Iterable[tuple[str, tuple[Operand, ...]]]) -> Json:
        return {
            role: [
                {"operand": str(operand), "shape": _shape(self.program, operand)}
                for operand in operands
            ]
            for role, operands in roles
        }


def amount(number: int) -> str:
    """A number in three digits and a letter: 1,234 → 1.23 k; below a thousand as it is."""
    if number < 1000:
        return str(number)
    power = min((len(str(number)) - 1) // 3, len(LETTERS))
    value = number / 1000**power
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {LETTERS[power - 1]}"


def _shape(program: Program, operand: Operand) -> str:
    return describe.shape(program.buffers[operand.buffer], operand)


def _outputs(program: Program, instruction: Instruction) -> str:
    return ", ".join(describe.operand(program, operand) for operand in instruction.writes())


def _inputs(program: Program, instruction: Instruction) -> str:
    """Inputs, the first without its role; attributes that are not what they are by default."""
    parts = [
        (f"{role}=" if number else "") + " | ".join(describe.operand(program, o) for o in operands)
        for number, (role, operands) in enumerate(instruction.inputs.items())
    ]
    parts += [
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in instruction.attributes.items()
        if OPTIONAL_ATTRIBUTES.get(name) != value
    ]
    return ", ".join(parts)


def _aligned(rows: list[tuple[str, ...]], right: set[int]) -> Iterator[str]:
    """Rows with their columns set to one width, the columns in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _json_cost(spent: Cost) -> Json:
    return {
        "operations": spent.operations,
        "bytes": spent.bytes,
        "weight_bytes": spent.weight_bytes,
        "activation_bytes": spent.activation_bytes,
        "kv_bytes": spent.kv_bytes,
    }
