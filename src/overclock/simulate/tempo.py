"""How long things take: what a simulation asks of whoever knows the computer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from overclock.machine import limits
from overclock.machine.virtual import Roofline
from overclock.model.model import Model
from overclock.predict.calibrate import calibrate
from overclock.predict.kernels import Lengths
from overclock.predict.measure import kinds_of
from overclock.predict.predictor import Predictor
from overclock.predict.sheet import read_sheet, scale_to, sheet_of
from overclock.predict.stages import Stages
from overclock.program.cost import Load, cost, uses_integers
from overclock.program.isa import Op
from overclock.program.program import PAGE_TOKENS, Instruction, KvFormat, Program

MOST_KEPT = 1 << 16
"""Batches whose seconds are remembered: prompts come in many sizes."""


class Tempo(Protocol):
    """Predicts seconds."""

    def run(self, lengths: NDArray[np.int32], contexts: NDArray[np.int32], selected: int) -> float:
        """Seconds of one run of the machine over a ragged batch.

        lengths, contexts: ``i32[S]``, new tokens of each sequence and those it has already
        selected: rows whose output is wanted
        """
        ...

    def stages(self, sequences: int, rows: int, tokens: int) -> float:
        """Seconds of the clock's own work around a run that gives `tokens` tokens."""
        ...

    def admission(self, prompt: int) -> float:
        """Seconds that taking in a request of `prompt` tokens costs whoever ticks."""
        ...

    @property
    def ratios(self) -> Sequence[float]:
        """Times of equal ticks by their median: every tick takes one of them, by chance."""
        ...


@dataclass(frozen=True, slots=True)
class _Attention:
    """Instructions that are alike but for their layer, and whose cost depends on contexts.

    pair, token: operations of each pair of a new token and a position it sees, of each new token
    kv, row: bytes of each position that is seen, of each new token
    """

    count: int
    window: int
    pair: int
    token: int
    kv: int
    row: int
    integers: bool


class RooflineTempo:
    """The tempo of a data sheet: every instruction reaches the nearer one of its two limits.

    The clock's own work takes nothing. No real machine is as fast.
    """

    def __init__(self, program: Program, roofline: Roofline, kv: KvFormat = "f16") -> None:
        self._program = program
        self._roofline = roofline
        self._kv: KvFormat = kv
        output = next(iter(program.outputs))
        needed = [program.instructions[index] for index in program.needed_for(output)]
        self._plain = _alike(program, [each for each in needed if each.op is not Op.ATTEND])
        attending = _alike(program, [each for each in needed if each.op is Op.ATTEND])
        self._attention = [self._describe(each, count) for each, count in attending]
        self._known: dict[tuple[int, int], float] = {}

    def run(self, lengths: NDArray[np.int32], contexts: NDArray[np.int32], selected: int) -> float:
        """Seconds of one run of the machine over a ragged batch."""
        tokens = int(lengths.sum())
        seconds = self._rows(tokens, selected)
        for each in self._attention:
            pairs, seen = _seen(lengths, contexts, tokens, each.window)
            moved = each.kv * seen + each.row * tokens
            done = each.pair * pairs + each.token * tokens
            seconds += each.count * self._pace(moved, done, each.integers)
        return seconds

    def stages(self, sequences: int, rows: int, tokens: int) -> float:
        """Nothing."""
        return 0.0

    def admission(self, prompt: int) -> float:
        """Nothing."""
        return 0.0

    @property
    def ratios(self) -> Sequence[float]:
        """Equal ticks are equally long."""
        return (1.0,)

    def _rows(self, tokens: int, selected: int) -> float:
        """Seconds of all instructions that only depend on how many rows there are."""
        known = self._known.get((tokens, selected))
        if known is None:
            load = Load((tokens,), (0,), selected)
            known = sum(count * self._alone(each, load) for each, count in self._plain)
            if len(self._known) < MOST_KEPT:
                self._known[tokens, selected] = known
        return known

    def _alone(self, instruction: Instruction, load: Load) -> float:
        spent = cost(self._program, instruction, load, self._kv)
        return self._roofline(spent, uses_integers(self._program, instruction))

    def _pace(self, moved: int, done: int, integers: bool) -> float:
        limit = self._roofline
        peak = (limit.int8_operations_per_second if integers else None) or (
            limit.operations_per_second
        )
        return max(moved / limit.bytes_per_second, done / peak)

    def _describe(self, instruction: Instruction, count: int) -> _Attention:
        """Read the factors off the costs of one token alone, and behind another one."""
        first, second = (
            cost(self._program, instruction, Load((1,), (context,), 1), self._kv)
            for context in (0, 1)
        )
        window = instruction.attribute("window")
        assert isinstance(window, int)
        wide = window != 1  # with a window of one, a token sees only itself
        pair = second.operations - first.operations if wide else first.operations
        return _Attention(
            count=count,
            window=window,
            pair=pair,
            token=first.operations - pair,
            kv=first.kv_bytes,
            row=first.activation_bytes,
            integers=uses_integers(self._program, instruction),
        )


class CalibratedTempo:
    """The tempo of a computer whose kernels were measured, or of another one by its limits."""

    def __init__(self, predictor: Predictor, stages: Stages) -> None:
        self._predictor = predictor
        self._stages = stages
        self._known: dict[object, float] = {}

    def run(self, lengths: NDArray[np.int32], contexts: NDArray[np.int32], selected: int) -> float:
        """Seconds of one run of the machine over a ragged batch.

        Batches that go through as many pages take the same time to within the model's own error,
        so the seconds of each kind of batch are kept.
        """
        key = _pages_key(lengths, contexts, selected)
        known = self._known.get(key)
        if known is None:
            known = self._predictor.seconds(Lengths.of(lengths, contexts, selected))
            if len(self._known) < MOST_KEPT:
                self._known[key] = known
        return known

    def stages(self, sequences: int, rows: int, tokens: int) -> float:
        """Seconds of the clock's own work around it."""
        return self._stages.seconds(sequences)

    def admission(self, prompt: int) -> float:
        """Seconds that taking one request in costs."""
        return self._stages.admission

    @property
    def ratios(self) -> Sequence[float]:
        """As they were measured."""
        return self._stages.ratios


def _pages_key(
    lengths: NDArray[np.int32], contexts: NDArray[np.int32], selected: int
) -> tuple[object, ...]:
    """What batches have in common that take the same time: rows, and pages of KV."""
    pages = (contexts + lengths) // PAGE_TOKENS
    shape = (len(lengths), selected, int(pages.sum()), int(pages.max()))
    if int(lengths.max()) == 1:
        return shape
    several = lengths > 1
    return (*shape, *lengths[several].tolist(), *pages[several].tolist())


def tempo_for(
    model: Model,
    program: Program,
    kv: KvFormat,
    threads: int | None,
    stages: Stages,
    computer: Path | None = None,
) -> Tempo:
    """The tempo of this computer, or of another one by its data sheet.

    program: that of `model`; stages: what the clock's own work takes
    computer: a file that `overclock doctor --json` wrote

    Measures the kernels of this computer if that has not been done, which takes some seconds.
    Raises InputError for a sheet that cannot be used.
    """
    sheet = None if computer is None else read_sheet(computer, threads)
    count = min(threads or limits.usable_cores(), limits.usable_cores())
    kinds = kinds_of(model, exact=program.exact)
    book = calibrate([(kind, program) for kind in kinds], kv, count)
    known = limits.load_or_measure(count)
    scale = None if sheet is None else scale_to(sheet, sheet_of(known, count))
    return CalibratedTempo(Predictor(program, kv, book, known, scale=scale), stages)


def ideal_tempo(
    program: Program, kv: KvFormat, threads: int | None, computer: Path | None = None
) -> RooflineTempo:
    """The tempo of this computer, or of another one by its sheet, if all reached its limits.

    Measures this computer's limits if that has not been done. Raises InputError for a sheet that
    cannot be used.
    """
    if computer is not None:
        return RooflineTempo(program, read_sheet(computer, threads).roofline(), kv)
    count = threads or limits.usable_cores()
    return RooflineTempo(program, sheet_of(limits.load_or_measure(count), count).roofline(), kv)


def _alike(program: Program, instructions: list[Instruction]) -> list[tuple[Instruction, int]]:
    """One of each kind of instruction, and how many cost the same."""
    kinds: dict[object, list[Instruction]] = defaultdict(list)
    for each in instructions:
        kinds[_kind(program, each)].append(each)
    return [(group[0], len(group)) for group in kinds.values()]


def _kind(program: Program, instruction: Instruction) -> object:
    """All that the cost of an instruction depends on beside the batch; names are not."""
    operands = []
    for roles in (instruction.inputs, instruction.outputs):
        for role, given in roles.items():
            for operand in given:
                buffer = program.buffers[operand.buffer]
                shape = (buffer.kind, buffer.columns, buffer.rows, buffer.element, buffer.shape)
                operands.append((role, operand.start, operand.stop, buffer.format, *shape))
    in_place = instruction.inputs.get("a") == instruction.outputs.get("y")
    attributes = tuple(sorted((name, repr(v)) for name, v in instruction.attributes.items()))
    return instruction.op, tuple(operands), in_place, attributes


def _seen(
    lengths: NDArray[np.int32], contexts: NDArray[np.int32], tokens: int, window: int
) -> tuple[int, int]:
    """Pairs of a new token and a position it sees, and positions that are seen by any.

    The sums of `overclock.program.cost.visible` and `span` over all sequences.
    """
    if not window and tokens == len(lengths):  # one token each: the most frequent case by far
        both = int(contexts.sum()) + tokens
        return both, both
    long, past = lengths.astype(np.int64), contexts.astype(np.int64)
    growing = long if not window else np.clip(window - past, 0, long)
    pairs = growing * past + growing * (growing + 1) // 2 + (long - growing) * window
    spans = past + long
    if window:
        spans = np.minimum(spans, window + long - 1)
    return int(pairs.sum()), int(spans.sum())
