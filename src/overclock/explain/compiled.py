"""The program that an explanation runs: plain, exact, and with what each layer would say.

::

    layer 0 ──→ layer 1 ──→ … ──→ layer N       the model's own program
       ↓           ↓                 ↓
    norm·head   norm·head         norm·head     copies of its end, behind each layer
       └─────── + ─┴────── + … ── + ─┘          an output that needs them all

That output is of no use in itself: a run for it makes every layer's answer, which is tapped. The
last layer's is the model's own answer, computed once more in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from overclock.model.model import Model
from overclock.program.compiler import compile
from overclock.program.isa import Op
from overclock.program.program import Buffer, Instruction, Operand, Program
from overclock.program.verify import verify

LENS = "lens"
"""The output that depends on what every layer says."""


@dataclass(frozen=True, slots=True)
class Attention:
    """How one layer attends, and which activations hold its queries and keys.

    q: ``f32[T, heads · d]``, k: ``f32[T, kv_heads · d]``, both as they are multiplied
    window: tokens that a token sees, itself included; 0 for all
    is_causal: whether a token sees only what stands before it
    """

    q: str
    k: str
    heads: int
    kv_heads: int
    scale: float
    window: int
    is_causal: bool


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program with what is to be tapped in it.

    attention: that of each layer
    answer: the output that an explanation is about: logits, scores or, for an encoder without a
        head, embedding
    lenses: the activation with each layer's answer, like that output; none without a head
    """

    program: Program
    attention: tuple[Attention, ...]
    answer: str
    lenses: tuple[str, ...]

    @property
    def output(self) -> str:
        """The output that all that can be tapped is made for."""
        return LENS if self.lenses else self.answer


def compiled(model: Model) -> Compiled:
    """The program to explain `model` with. Raises as `compile` does."""
    program = compile(model, exact=True, passes=())
    answer = next(name for name in ("logits", "scores", "embedding") if name in program.outputs)
    sites = tuple(_attention(program))
    if answer == "embedding":
        return Compiled(program, sites, answer, ())
    program, lenses = with_lenses(program, answer)
    return Compiled(program, sites, answer, lenses)


def _attention(program: Program) -> Iterator[Attention]:
    """The attention of each layer, in order."""
    keys = {
        each.outputs["cache"][0]: each.inputs["k"][0]
        for each in program.instructions
        if each.op is Op.STORE
    }
    for each in program.instructions:
        if each.op in (Op.ATTEND, Op.ATTEND_ALL):
            is_causal = each.op is Op.ATTEND
            k = keys[each.inputs["cache"][0]] if is_causal else each.inputs["k"][0]
            yield _site(each, k, is_causal)


def _site(attend: Instruction, k: Operand, is_causal: bool) -> Attention:
    heads, scale = attend.attribute("heads"), attend.attribute("scale")
    kv_heads = attend.attribute("kv_heads") if is_causal else heads
    window = attend.attribute("window") if is_causal else 0
    assert isinstance(heads, int)
    assert isinstance(kv_heads, int)
    assert isinstance(window, int)
    assert isinstance(scale, float)
    return Attention(
        attend.inputs["q"][0].buffer, k.buffer, heads, kv_heads, scale, window, is_causal
    )


def with_lenses(program: Program, answer: str) -> tuple[Program, tuple[str, ...]]:
    """A plain program with the output `LENS` beside its others, and each layer's lens.

    What follows the last layer up to the output `answer` is repeated behind every layer.
    """
    ends = _ends(program)
    last = max(ends)
    tail = [program.instructions[i] for i in program.needed_for(answer) if i > last]
    end = program.outputs[answer].buffer
    writer = _Writer(program, tail, _stream(program, last), end, {}, [])
    instructions: list[Instruction] = []
    for index, instruction in enumerate(program.instructions):
        instructions.append(instruction)
        if index in ends:
            instructions += writer.tail(ends[index], _stream(program, index))
    result = replace(
        program,
        instructions=tuple(instructions),
        buffers={**program.buffers, **writer.buffers},
        outputs={**program.outputs, LENS: Operand(writer.sums[-1])},
    )
    verify(result)
    return result, tuple(f"{layer}.{LENS}.{end}" for layer in ends.values())


def _ends(program: Program) -> Mapping[int, int]:
    """Index of each layer's last instruction → the layer."""
    last = {
        instruction.layer: index
        for index, instruction in enumerate(program.instructions)
        if instruction.layer is not None
    }
    return {index: layer for layer, index in last.items()}


def _stream(program: Program, index: int) -> str:
    """What a layer's last instruction writes: the residual stream, ``f32[T, width]``."""
    return program.instructions[index].outputs["y"][0].buffer


@dataclass(frozen=True, slots=True)
class _Writer:
    """Repeats the instructions `tail`, which make `end` of `start`, for other layers' streams."""

    program: Program
    instructions: list[Instruction]
    start: str
    end: str
    buffers: dict[str, Buffer]
    sums: list[str]

    def tail(self, layer: int, stream: str) -> Iterator[Instruction]:
        """The tail that reads `stream`, and the sum of its answer and those before."""
        renamed = {self.start: stream}
        for instruction in self.instructions:
            for operand in instruction.writes():
                renamed[operand.buffer] = self._copy(f"{layer}.{LENS}", operand.buffer)
            yield _renamed(instruction, renamed, layer)
        answer = renamed[self.end]
        if self.sums:
            total = self._copy(f"{layer}.{LENS}.sum", self.end)
            inputs = {"a": (Operand(self.sums[-1]),), "b": (Operand(answer),)}
            yield Instruction(Op.ADD, inputs, {"y": (Operand(total),)}, layer=layer)
            self.sums.append(total)
        else:
            self.sums.append(answer)

    def _copy(self, prefix: str, name: str) -> str:
        copy = f"{prefix}.{name}"
        self.buffers[copy] = replace(self.program.buffers[name], name=copy)
        return copy


def _renamed(instruction: Instruction, renamed: Mapping[str, str], layer: int) -> Instruction:
    inputs, outputs = (
        {role: tuple(_operand(each, renamed) for each in given) for role, given in side.items()}
        for side in (instruction.inputs, instruction.outputs)
    )
    return replace(instruction, inputs=inputs, outputs=outputs, layer=layer)


def _operand(operand: Operand, renamed: Mapping[str, str]) -> Operand:
    return replace(operand, buffer=renamed.get(operand.buffer, operand.buffer))
