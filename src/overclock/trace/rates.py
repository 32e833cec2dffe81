"""What an engine did between two readings of its board."""

from __future__ import annotations

from dataclasses import dataclass

from overclock.errors import InputError
from overclock.machine.limits import Limits, Quantity
from overclock.trace.board import Engine, Figures

STAGES = ("fetch", "decode", "execute", "write back")


@dataclass(frozen=True, slots=True)
class Rates:
    """What came of `seconds`. Times are in seconds; None where nothing happened to tell it from.

    tick: the mean of `ticks`; stages: shares of their time, in the order of `STAGES`
    opcodes: seconds of each opcode in which the machine spent any, the most first
    accepted: share of the guesses that came true, since the engine was opened
    limit: how much of the time of the ticks this computer would have needed at best
    """

    seconds: float
    ticks: int
    tokens_per_s: float
    prompt_tokens_per_s: float
    tick: float | None
    stages: tuple[float, ...] | None
    opcodes: tuple[tuple[str, float], ...]
    accepted: float | None
    limit: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """A reading and when it was taken, on the monotonic clock."""

    engine: Engine
    figures: Figures
    taken: float

    @property
    def at(self) -> float:
        """The moment that the figures tell of: a busy engine's last tick, an idle one's now."""
        figures = self.figures
        return figures.at if figures.is_busy and figures.at else self.taken


def rates(before: Look, after: Look, limits: Limits | None) -> Rates | None:
    """The rates between two looks at one engine; None if they cannot follow each other."""
    if before.engine != after.engine or not _follows(before.figures, after.figures):
        return None
    old, new = before.figures, after.figures
    seconds = max(0.0, after.at - before.at)
    busy = sum(new.stages) - sum(old.stages)
    ticks = new.ticks - old.ticks
    return Rates(
        seconds=seconds,
        ticks=ticks,
        tokens_per_s=_ratio(new.tokens - old.tokens, seconds) or 0.0,
        prompt_tokens_per_s=_ratio(new.prompt_tokens - old.prompt_tokens, seconds) or 0.0,
        tick=_ratio(busy, ticks),
        stages=_shares(old.stages, new.stages),
        opcodes=_opcodes(after.engine, old, new),
        accepted=_ratio(new.accepted, new.drafted),
        limit=_ratio(_least(after.engine, old, new, limits), busy),
    )


def _follows(old: Figures, new: Figures) -> bool:
    """Counts never go back."""
    counts = (new.ticks - old.ticks, new.tokens - old.tokens, new.rows - old.rows)
    return min(*counts, new.prompt_tokens - old.prompt_tokens) >= 0


def _ratio(part: float | None, whole: float) -> float | None:
    return part / whole if part is not None and whole > 0 else None


def _shares(old: tuple[float, ...], new: tuple[float, ...]) -> tuple[float, ...] | None:
    spent = [max(0.0, b - a) for a, b in zip(old, new, strict=True)]
    whole = sum(spent)
    return tuple(each / whole for each in spent) if whole > 0 else None


def _opcodes(engine: Engine, old: Figures, new: Figures) -> tuple[tuple[str, float], ...]:
    spent = (b - a for a, b in zip(old.seconds, new.seconds, strict=True))
    found = [(name, each) for name, each in zip(engine.opcodes, spent, strict=True) if each > 0]
    return tuple(sorted(found, key=lambda each: -each[1]))


def _least(engine: Engine, old: Figures, new: Figures, limits: Limits | None) -> float | None:
    """Seconds that the runs between two readings take at best; None if nobody has measured it.

    Every run reads the weights and the KV pages that are in use once, and every row has its
    operations; the slower of the two is the least.
    """
    if limits is None:
        return None
    kv = engine.page_bytes * (new.pages_read - old.pages_read)
    read = engine.weight_bytes * (new.runs - old.runs) + kv
    operations = engine.row_operations * (new.rows - old.rows)
    quantity: Quantity = "f32_gflops" if engine.exact else "int8_gops"
    try:
        reading = read / (1e9 * limits.limit("read_bandwidth_gbs", engine.threads))
    except InputError:
        return None
    try:
        return max(reading, operations / (1e9 * limits.limit(quantity, engine.threads)))
    except InputError:  # only the bandwidth has been measured yet
        return reading
