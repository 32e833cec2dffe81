"""A program under rewriting: instructions that can be replaced and dropped, and who uses what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from overclock.program.isa import Op
from overclock.program.program import Buffer, Element, Instruction, Kind, Operand, Program, Rows


class Draft:
    """The instructions of a program by their original index, with an index of their buffers.

    A dropped instruction leaves a gap, so that indices stay what they were.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._instructions: dict[int, Instruction] = {}
        self._readers: dict[str, set[int]] = {}
        self._writers: dict[str, set[int]] = {}
        self.buffers: dict[str, Buffer] = dict(program.buffers)
        self.outputs: dict[str, Operand] = dict(program.outputs)
        for index, instruction in enumerate(program.instructions):
            self.put(index, instruction)

    def __getitem__(self, index: int) -> Instruction:
        return self._instructions[index]

    def of(self, *ops: Op) -> Iterator[tuple[int, Instruction]]:
        """The instructions with one of these opcodes, in order; safe against rewriting."""
        for index in sorted(self._instructions):
            instruction = self._instructions.get(index)
            if instruction is not None and instruction.op in ops:
                yield index, instruction

    # -- questions ----------------------------------------------------------------------------

    def readers(self, buffer: str) -> list[int]:
        """Who reads any part of the buffer, in order."""
        return sorted(self._readers.get(buffer, ()))

    def users(self, buffer: str) -> list[int]:
        """Who reads or writes any part of the buffer, in order."""
        return sorted(self._readers.get(buffer, set()) | self._writers.get(buffer, set()))

    def writer(self, buffer: str) -> int | None:
        """The one instruction that writes the buffer; None if there are several or none."""
        writers = self._writers.get(buffer, set())
        return next(iter(writers)) if len(writers) == 1 else None

    def is_output(self, buffer: str) -> bool:
        """Whether a batch may ask for the buffer."""
        return any(operand.buffer == buffer for operand in self.outputs.values())

    def only_reader(self, buffer: str) -> int | None:
        """The one instruction that reads the buffer; None if others do, or a batch may ask."""
        readers = self._readers.get(buffer, set())
        return next(iter(readers)) if len(readers) == 1 and not self.is_output(buffer) else None

    def is_whole(self, operand: Operand) -> bool:
        """Whether the operand is all columns of its buffer."""
        columns = self.buffers[operand.buffer].columns
        return operand.start == 0 and operand.stop in (None, columns)

    def producer(self, operand: Operand, op: Op) -> int | None:
        """The `op` whose output is the operand, if only one instruction writes and reads it."""
        index = self.writer(operand.buffer)
        if index is None or self[index].op is not op or not self.is_whole(operand):
            return None
        return index if self.only_reader(operand.buffer) is not None else None

    def source(self, operand: Operand, index: int) -> int | None:
        """Who last wrote the operand before `index`; None if it was not written as one whole."""
        before = [i for i in self._writers.get(operand.buffer, ()) if i < index]
        return max(before) if before and self._writes_whole(max(before), operand.buffer) else None

    def value_readers(self, buffer: str, writer: int) -> list[int]:
        """Who reads what `writer` put into the buffer, in order, up to whom overwrites it all."""
        ends = [
            index
            for index in self._writers[buffer]
            if index > writer and self._writes_whole(index, buffer)
        ]
        end = min(ends, default=None)
        return [
            index
            for index in self.readers(buffer)
            if index > writer and (end is None or index <= end)
        ]

    def _writes_whole(self, index: int, buffer: str) -> bool:
        return any(o.buffer == buffer and self.is_whole(o) for o in self[index].writes())

    def is_written_between(self, buffers: Iterable[str], first: int, last: int) -> bool:
        """Whether an instruction after `first` and before `last` writes one of the buffers."""
        return any(
            first < index < last for name in buffers for index in self._writers.get(name, ())
        )

    def is_written_after(self, buffer: str, index: int) -> bool:
        """Whether an instruction after `index` writes any part of the buffer."""
        return any(writer > index for writer in self._writers.get(buffer, ()))

    def can_move(self, first: int, last: int) -> bool:
        """Whether instruction `first` would compute the same at the place of `last`."""
        reads = {operand.buffer for operand in self[first].reads()}
        return not self.is_written_between(reads, first, last)

    # -- changes ------------------------------------------------------------------------------

    def put(self, index: int, instruction: Instruction) -> None:
        """Set the instruction at an index."""
        self.drop(index)
        self._instructions[index] = instruction
        for operand in instruction.reads():
            self._readers.setdefault(operand.buffer, set()).add(index)
        for operand in instruction.writes():
            self._writers.setdefault(operand.buffer, set()).add(index)

    def drop(self, index: int) -> None:
        """Take the instruction at an index away, if there is one."""
        instruction = self._instructions.pop(index, None)
        if instruction is None:
            return
        for operand in instruction.reads():
            self._readers[operand.buffer].discard(index)
        for operand in instruction.writes():
            self._writers[operand.buffer].discard(index)

    def rename(self, old: str, new: Operand) -> None:
        """Every reader of `old` (and every output) reads `new` in its place."""
        width = self.buffers[old].columns
        for index in self.readers(old):
            inputs = moved_roles(self[index].inputs, old, new, width)
            self.put(index, replace(self[index], inputs=inputs))
        for name, operand in self.outputs.items():
            self.outputs[name] = moved(operand, old, new, width)

    def rehouse(self, old: str, new: Operand) -> None:
        """Every instruction that reads or writes `old` uses `new` in its place."""
        width = self.buffers[old].columns
        for index in self.users(old):
            inputs = moved_roles(self[index].inputs, old, new, width)
            outputs = moved_roles(self[index].outputs, old, new, width)
            self.put(index, replace(self[index], inputs=inputs, outputs=outputs))

    def activation(
        self, name: str, columns: int, rows: Rows | None, element: Element = Element.F32
    ) -> str:
        """A new activation buffer; its name gets a number if it is taken. Returns the name."""
        unique, number = name, 2
        while unique in self.buffers:
            unique, number = f"{name}.{number}", number + 1
        self.buffers[unique] = Buffer(unique, Kind.ACTIVATION, columns, rows, element)
        return unique

    def program(self) -> Program:
        """The result, without the buffers that no instruction mentions any more."""
        instructions = tuple(self._instructions[i] for i in sorted(self._instructions))
        return rebuilt(self._program, instructions, self.buffers, self.outputs)


def moved(operand: Operand, old: str, new: Operand, width: int) -> Operand:
    """`operand` with `new` in the place of the buffer `old`, which is `width` columns wide."""
    if operand.buffer != old:
        return operand
    if new.stop is None and new.start == 0:
        return replace(operand, buffer=new.buffer)
    stop = width if operand.stop is None else operand.stop
    return Operand(new.buffer, new.start + operand.start, new.start + stop)


def moved_roles(
    roles: Mapping[str, tuple[Operand, ...]], old: str, new: Operand, width: int
) -> dict[str, tuple[Operand, ...]]:
    """`moved` for the operands of all roles."""
    return {
        role: tuple(moved(operand, old, new, width) for operand in operands)
        for role, operands in roles.items()
    }


def rebuilt(
    program: Program,
    instructions: tuple[Instruction, ...],
    buffers: Mapping[str, Buffer],
    outputs: Mapping[str, Operand],
) -> Program:
    """`program` with other instructions, keeping only the buffers that they mention."""
    mentioned = {operand.buffer for operand in outputs.values()}
    for instruction in instructions:
        mentioned.update(operand.buffer for operand in instruction.reads())
        mentioned.update(operand.buffer for operand in instruction.writes())
    return replace(
        program,
        instructions=instructions,
        buffers={name: buffer for name, buffer in buffers.items() if name in mentioned},
        outputs=outputs,
        constants={n: values for n, values in program.constants.items() if n in mentioned},
    )
