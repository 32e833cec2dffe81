"""Each instruction's time against what this computer could do, and what kept it from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from overclock.machine.limits import Limits
from overclock.program.program import Program
from overclock.trace.costs import Costs
from overclock.trace.record import TickDetail, TickRecord

Bound = Literal["memory", "arithmetic"]
Reason = Literal["memory", "arithmetic", "latency", "waiting", "kernel"]
"""memory, arithmetic: it is near that limit; latency: work too small to fill the machine; waiting:
threads wait for each other; kernel: what the kernel does beside the counted work, such as unpacking
and scaling, keeps it from both limits."""

WAITING_SHARE = 0.25
"""Of all threads' time: an instruction that loses as much to waiting is bound by that."""

LATENCY_SHARE = 0.4
"""Of the attainable time: small work that reaches less is bound by its own start and end."""

NEAR_SHARE = 0.6
"""An instruction that reaches so much of the attainable time is bound by its limit."""

SMALL_SECONDS = 20e-6
"""Work that takes less than this is small: a barrier and a first miss are a good part of it."""


@dataclass(frozen=True, slots=True)
class InstructionAccount:
    """What all runs of one instruction took together.

    seconds: wall time; busy_s: of all threads in its kernel
    attainable_s: the longer of moving its bytes at the measured bandwidth of as many bytes as the
        whole run goes through, and doing its operations at the measured peak
    share: attainable_s / seconds; bound: which of the two it is; reason: what the time went to
    """

    runs: int
    seconds: float
    busy_s: float
    operations: float
    weight_bytes: float
    activation_bytes: float
    kv_bytes: float
    attainable_s: float | None
    share: float | None
    bound: Bound | None
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Account:
    """All instructions; wait_s is threads' time at barriers; limit_share of all instructions."""

    instructions: list[InstructionAccount]
    wait_s: float
    limit_share: float | None


class Threads(Protocol):
    """Whatever says how many threads ran."""

    @property
    def threads(self) -> int:
        """How many."""
        ...


def account(
    program: Program,
    ticks: Sequence[TickRecord],
    costs: Sequence[Costs | None],
    integers: NDArray[np.bool_],
    limits: Limits | None,
    of: Threads,
) -> Account:
    """The account of `ticks`, whose costs were counted."""
    count = len(program.instructions)
    totals = _Totals(count)
    for tick, spent in zip(ticks, costs, strict=True):
        if tick.detail is not None and spent is not None:
            totals.add(tick.detail, spent, integers, limits, of.threads)
    found = [totals.instruction(index, of.threads, limits) for index in range(count)]
    seconds = float(totals.seconds.sum())
    wait = max(0.0, of.threads * seconds - float(totals.busy.sum())) if totals.is_watched else 0.0
    share = None
    if limits is not None and seconds > 0.0:
        share = float(totals.attainable.sum()) / seconds
    return Account(found, wait, share)


class _Totals:
    """Sums over ticks, ``f64[instructions]`` each."""

    def __init__(self, count: int) -> None:
        self.runs = np.zeros(count, np.int64)
        self.seconds = np.zeros(count)
        self.busy = np.zeros(count)
        self.costs = np.zeros((count, 4))
        self.memory = np.zeros(count)
        self.arithmetic = np.zeros(count)
        self.attainable = np.zeros(count)
        self.is_watched = False

    def add(
        self,
        detail: TickDetail,
        costs: Costs,
        integers: NDArray[np.bool_],
        limits: Limits | None,
        threads: int,
    ) -> None:
        """One more tick."""
        counters = detail.counters
        self.is_watched |= counters.busy is not None
        self.runs += counters.seconds > 0
        self.seconds += counters.seconds
        self.busy += counters.seconds if counters.busy is None else counters.busy.sum(axis=0)
        self.costs += costs
        if limits is None:
            return
        sizes = costs[:, 1:].sum(axis=1)
        whole = float(costs[:, 1].sum() + costs[:, 3].sum())
        memory = sizes / (1e9 * limits.bandwidth(max(whole, 1.0), threads))
        peaks = np.where(
            integers, limits.limit("int8_gops", threads), limits.limit("f32_gflops", threads)
        )
        arithmetic = costs[:, 0] / (1e9 * peaks)
        self.memory += memory
        self.arithmetic += arithmetic
        self.attainable += np.maximum(memory, arithmetic)

    def instruction(self, index: int, threads: int, limits: Limits | None) -> InstructionAccount:
        """One instruction's account."""
        seconds = float(self.seconds[index])
        has_limit = limits is not None and seconds > 0.0
        attainable = float(self.attainable[index])
        bound: Bound = "memory" if self.memory[index] >= self.arithmetic[index] else "arithmetic"
        return InstructionAccount(
            runs=int(self.runs[index]),
            seconds=seconds,
            busy_s=float(self.busy[index]),
            operations=float(self.costs[index, 0]),
            weight_bytes=float(self.costs[index, 1]),
            activation_bytes=float(self.costs[index, 2]),
            kv_bytes=float(self.costs[index, 3]),
            attainable_s=attainable if has_limit else None,
            share=attainable / seconds if has_limit else None,
            bound=bound if has_limit else None,
            reason=self._reason(index, threads, bound) if has_limit else None,
        )

    def _reason(self, index: int, threads: int, bound: Bound) -> Reason:
        seconds = float(self.seconds[index])
        waiting = 1.0 - float(self.busy[index]) / (threads * seconds)
        reaches = float(self.attainable[index]) / seconds
        small = seconds / max(1, int(self.runs[index])) < SMALL_SECONDS
        if small and reaches < LATENCY_SHARE:
            return "latency"
        if self.is_watched and waiting > WAITING_SHARE:
            return "waiting"
        return bound if reaches >= NEAR_SHARE else "kernel"
