"""The datasheet: what this computer can do at best, measured once and kept with its date.

By number of threads: how fast memory is read (GB/s, 1e9 bytes), how many f32 (GFLOP/s) and int8
(GOP/s) operations the cores do in registers (a multiply and an add are two), and how fast buffers
of every size are read, from those that the nearest cache holds to those that none does. Every share
of a limit that the engine reports is held against them.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path
from typing import Literal, NamedTuple

from overclock.errors import InputError
from overclock.machine import computer
from overclock.machine.computer import usable_cores
from overclock.settings import cache_directory

__all__ = ["Figure", "Level", "Limits", "cached", "load_or_measure", "measure", "usable_cores"]

Quantity = Literal["read_bandwidth_gbs", "f32_gflops", "int8_gops"]

QUANTITIES: tuple[Quantity, ...] = ("read_bandwidth_gbs", "f32_gflops", "int8_gops")

REPETITIONS = 5
SLICE_SECONDS = 0.12
QUICK_SECONDS = 0.15

QUICK_BYTES = 128 << 20
MOST_BYTES = 1 << 30

CURVE_SECONDS = 0.03
CURVE_REPETITIONS = 3

CURVE_SHARES = (16 << 10, 128 << 10, 512 << 10, 1 << 20)
"""Bytes of each thread's part, where every core has caches of its own."""

CURVE_BYTES = tuple(
    mebibytes << 20 for mebibytes in (4, 8, 16, 32, 64, 96, 128, 192, 256, 512, 1024)
)
"""Bytes of all threads together, beyond that."""


class Figure(NamedTuple):
    """The median of repeated measurements and the lowest and highest of them."""

    median: float
    low: float
    high: float


Figures = dict[int, Figure]
"""Figures by number of threads."""

Curve = dict[int, Figure]
"""GB/s of reading a buffer again and again, by its bytes."""


class Level(NamedTuple):
    """One level of the memory: what all threads' caches of it hold, and how fast they are read."""

    name: str
    bytes: int
    gbs: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one computer can do at best.

    `measured` is the date and time (ISO 8601, UTC), `version` the overclock that measured.
    `read_bandwidth_gbs`, `f32_gflops`, `int8_gops` and `read_curve` are by number of threads; what
    has not been measured is not there. `cached` tells figures that were read from the cache.
    """

    cpu: str
    cores: int
    instruction_sets: tuple[str, ...]
    measured: str
    version: str
    timer_ns: float
    read_bandwidth_gbs: Figures = field(default_factory=dict)
    f32_gflops: Figures = field(default_factory=dict)
    int8_gops: Figures = field(default_factory=dict)
    read_curve: dict[int, Curve] = field(default_factory=dict)
    cached: bool = False

    def figures(self, quantity: Quantity) -> Figures:
        """One of the three quantities."""
        figures: Figures = getattr(self, quantity)
        return figures

    def limit(self, quantity: Quantity, threads: int) -> float:
        """The median for `threads`, or for the nearest lower count that was measured.

        Raises InputError if there is none.
        """
        figures = self.figures(quantity)
        known = [count for count in figures if count <= threads]
        if not known:
            raise InputError(
                f"{quantity} has not been measured for {threads} threads: run `overclock doctor`"
            )
        return figures[max(known)].median

    def bandwidth(self, size: float, threads: int) -> float:
        """GB/s of reading `size` bytes again and again; between two measured sizes by logarithms.

        Without a curve the bandwidth of memory. Raises InputError if that is not known either.
        """
        known = [count for count in self.read_curve if count <= threads]
        if not known:
            return self.limit("read_bandwidth_gbs", threads)
        curve = self.read_curve[max(known)]
        sizes = sorted(curve)
        place = bisect_left(sizes, size)
        if place == 0 or place == len(sizes):
            return curve[sizes[min(place, len(sizes) - 1)]].median
        low, high = sizes[place - 1], sizes[place]
        share = log(size / low) / log(high / low)
        return float(curve[low].median ** (1 - share) * curve[high].median ** share)

    def levels(self, threads: int) -> tuple[Level, ...]:
        """The caches from the nearest on, each read when half full, and memory; () if unknown."""
        if not any(count <= threads for count in self.read_curve):
            return ()
        caches = computer.caches()
        shared = max((cache.level for cache in caches), default=0)
        found = [
            Level(f"L{cache.level}", size, self.bandwidth(size / 2, threads))
            for cache in caches
            if cache.kind != "instruction"
            for size in (cache.size * (1 if cache.level == shared else threads),)
        ]
        memory = self.limit("read_bandwidth_gbs", threads)
        return (*found, Level("memory", computer.memory().total, memory))

    def identity(self) -> tuple[object, ...]:
        """What must be equal for cached figures to hold."""
        return self.cpu, self.cores, self.instruction_sets, self.version


def load_or_measure(
    threads: int | None = None, *, quick: bool = False, again: bool = False
) -> Limits:
    """The figures for `threads`, from the cache where they are there, else measured and kept.

    Without `threads`: for 1, 2, 4 … and all usable cores. `quick` measures no more than the read
    bandwidth for `threads`, in half a second; `again` ignores the cache. A cache that is damaged,
    or of another processor or version, is measured anew; one that cannot be written is no error.

    Raises InputError if `threads` is less than 1.
    """
    counts = _counts(threads)
    wanted = QUANTITIES[:1] if quick else QUANTITIES
    known = None if again else cached()
    if known is not None and _covers(known, counts, wanted, curve=not quick):
        return known
    fresh = measure(counts, quantities=wanted, quick=quick)
    merged = fresh if known is None else _merge(known, fresh)
    _save(merged)
    return merged


def measure(
    counts: Iterable[int], *, quantities: Iterable[Quantity] = QUANTITIES, quick: bool = False
) -> Limits:
    """Measure `quantities` for each thread count, now: some 4 s a count, 0.5 s if `quick`.

    The curve over sizes is left out if `quick`.
    """
    counts, quantities = tuple(counts), tuple(quantities)
    repetitions = 1 if quick else REPETITIONS

    def figures(name: Quantity) -> Figures:
        if name not in quantities:
            return {}
        return {count: _repeat(_probe(name, count, quick), repetitions) for count in counts}

    return replace(
        _blank(),
        read_bandwidth_gbs=figures("read_bandwidth_gbs"),
        f32_gflops=figures("f32_gflops"),
        int8_gops=figures("int8_gops"),
        read_curve={} if quick else {count: _curve(count) for count in counts},
    )


def _covers(
    known: Limits, counts: Iterable[int], quantities: Iterable[Quantity], *, curve: bool
) -> bool:
    tables = [set(known.figures(name)) for name in quantities]
    tables += [set(known.read_curve)] if curve else []
    return all(set(counts) <= table for table in tables)


def _curve(threads: int) -> Curve:
    """The bandwidth of `threads` at sizes from their first caches to beyond the last one."""
    from overclock.machine import native

    most = _buffer_bytes(False)
    sizes = {threads * share for share in CURVE_SHARES}
    sizes |= {size for size in CURVE_BYTES if max(sizes) < size <= most}

    def figure(size: int) -> Figure:
        def probe() -> float:
            return native.probe_read_bandwidth(threads, size, CURVE_SECONDS)

        return _repeat(probe, CURVE_REPETITIONS)

    return {size: figure(size) for size in sorted(sizes)}


def _counts(threads: int | None) -> tuple[int, ...]:
    """The thread counts to measure: the one asked for, or powers of two and all cores."""
    if threads is not None:
        if threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        return (threads,)
    cores = usable_cores()
    return tuple(sorted({*(1 << bit for bit in range(cores.bit_length())), cores}))


def _probe(quantity: Quantity, threads: int, quick: bool) -> Callable[[], float]:
    """One measurement of `quantity`, ready to be called."""
    from overclock.machine import native  # loads the extension: only when it is really measured

    seconds = QUICK_SECONDS if quick else SLICE_SECONDS
    match quantity:
        case "read_bandwidth_gbs":
            size = _buffer_bytes(quick)
            return lambda: native.probe_read_bandwidth(threads, size, seconds)
        case "f32_gflops":
            return lambda: native.probe_peak_f32(threads, seconds)
        case "int8_gops":
            return lambda: native.probe_peak_int8(threads, seconds)


def _buffer_bytes(quick: bool) -> int:
    """A buffer that no cache holds, and that takes a quarter of the free memory at most."""
    largest = max((cache.size for cache in computer.caches()), default=0)
    wanted = max(QUICK_BYTES, (4 if quick else 8) * largest)
    return min(wanted, MOST_BYTES, max(1 << 20, computer.memory().available // 4))


def _repeat(measurement: Callable[[], float], repetitions: int) -> Figure:
    values = [measurement() for _ in range(repetitions)]
    return Figure(statistics.median(values), min(values), max(values))


def _blank() -> Limits:
    """This computer with nothing measured yet."""
    from overclock.machine import native

    return Limits(
        cpu=computer.cpu_name(),
        cores=usable_cores(),
        instruction_sets=tuple(native.instruction_sets()),
        measured=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        version=installed_version(),
        timer_ns=native.probe_timer(),
    )


def installed_version() -> str:
    """The version of the package, or that it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("overclock")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "source"


def _merge(known: Limits, fresh: Limits) -> Limits:
    """Both sets of figures; what was measured now wins and gives the date."""
    return replace(
        fresh,
        read_bandwidth_gbs=known.read_bandwidth_gbs | fresh.read_bandwidth_gbs,
        f32_gflops=known.f32_gflops | fresh.f32_gflops,
        int8_gops=known.int8_gops | fresh.int8_gops,
        read_curve=known.read_curve | fresh.read_curve,
    )


def _cache_file() -> Path:
    return cache_directory() / "limits.json"


def cached() -> Limits | None:
    """The figures in the cache, if they are of this computer, this version and undamaged."""
    try:
        limits = _parse(json.loads(_cache_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return limits if limits.identity() == _blank().identity() else None


def _parse(record: object) -> Limits:
    """Limits from JSON. Raises ValueError, TypeError or KeyError if they are damaged."""
    values = _object(record)
    return Limits(
        cpu=str(values["cpu"]),
        cores=int(str(values["cores"])),
        instruction_sets=tuple(str(values["instruction_sets"]).split()),
        measured=datetime.datetime.fromisoformat(str(values["measured"])).isoformat(),
        version=str(values["version"]),
        timer_ns=float(str(values["timer_ns"])),
        read_bandwidth_gbs=_parse_figures(values["read_bandwidth_gbs"]),
        f32_gflops=_parse_figures(values["f32_gflops"]),
        int8_gops=_parse_figures(values["int8_gops"]),
        read_curve={
            int(count): _parse_figures(curve)
            for count, curve in _object(values["read_curve"]).items()
        },
        cached=True,
    )


def _parse_figures(record: object) -> Figures:
    return {
        int(threads): Figure(*(float(str(_object(figure)[name])) for name in Figure._fields))
        for threads, figure in _object(record).items()
    }


def _object(record: object) -> dict[str, object]:
    if not isinstance(record, dict):
        raise TypeError("a JSON object is wanted")
    return record


def _record(limits: Limits) -> dict[str, object]:
    """What `_parse` reads."""
    record: dict[str, object] = {name: _plain(limits.figures(name)) for name in QUANTITIES}
    return record | {
        "read_curve": {str(count): _plain(curve) for count, curve in limits.read_curve.items()},
        "cpu": limits.cpu,
        "cores": limits.cores,
        "instruction_sets": " ".join(limits.instruction_sets),
        "measured": limits.measured,
        "version": limits.version,
        "timer_ns": limits.timer_ns,
    }


def _plain(figures: Figures) -> dict[str, object]:
    return {str(key): figure._asdict() for key, figure in figures.items()}


def _save(limits: Limits) -> None:
    """Replace the cache in one step; a reader sees the old file or the new one."""
    text = json.dumps(_record(limits), indent=2)
    path = _cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".limits-", suffix=".json")
    except OSError:
        return
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
