"""`overclock doctor`: what this computer can do at best, measured once and kept."""

from __future__ import annotations

import click

from overclock.cli import options
from overclock.cli.output import note, print_json, print_table
from overclock.machine import computer, limits
from overclock.machine.limits import QUANTITIES, Figure, Limits


@click.command()
@options.threads
@click.option("--again", is_flag=True, help="Measure anew, whatever the cache holds.")
@options.as_json
def command(threads: int | None, again: bool, as_json: bool) -> None:
    """Measure what this computer can do: memory bandwidth and operations per second.

    The figures are kept with their date; --again replaces them.
    """
    known = limits.load_or_measure(threads, again=again)
    if as_json:
        print_json(_record(known))
    else:
        _show(known)


def _record(known: Limits) -> dict[str, object]:
    """Medians by thread count under the quantity's name, the rest beside them."""
    medians: dict[str, object] = {
        name: {str(count): round(figure.median, 2) for count, figure in _by_threads(known, name)}
        for name in QUANTITIES
    }
    spreads = {
        name: {
            str(count): [round(figure.low, 2), round(figure.high, 2)]
            for count, figure in _by_threads(known, name)
        }
        for name in QUANTITIES
    }
    memory = computer.memory()
    return {
        **medians,
        "spread": spreads,
        "read_curve": {
            str(count): {str(size): round(figure.median, 2) for size, figure in curve.items()}
            for count, curve in known.read_curve.items()
        },
        "levels": {
            str(count): [level._asdict() for level in known.levels(count)]
            for count in known.read_curve
        },
        "cpu": known.cpu,
        "usable_cores": known.cores,
        "cpu_quota": computer.cpu_quota(),
        "instruction_sets": known.instruction_sets,
        "caches": [
            {"level": cache.level, "kind": cache.kind, "bytes": cache.size}
            for cache in computer.caches()
        ],
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "timer_ns": known.timer_ns,
        "measured": known.measured,
        "version": known.version,
        "cached": known.cached,
    }


def _by_threads(known: Limits, quantity: limits.Quantity) -> list[tuple[int, Figure]]:
    return sorted(known.figures(quantity).items())


def _show(known: Limits) -> None:
    for name, value in _facts(known):
        click.echo(f"{name:<18}{value}")
    click.echo()
    print_table(("threads", "memory read GB/s", "f32 GFLOP/s", "int8 GOP/s"), _rows(known))
    levels = {count: known.levels(count) for count in sorted(known.read_curve)}
    names = [level.name for level in next(iter(levels.values()), ())]
    if names:
        click.echo()
        rows = [
            (str(count), *(f"{level.gbs:,.1f}" for level in found))
            for count, found in levels.items()
        ]
        print_table(("threads", *(f"{name} read GB/s" for name in names)), rows)
    age = "cached, measured" if known.cached else "measured"
    again = " (--again measures anew)" if known.cached else ""
    note(f"{age} {known.measured}; medians and half the range{again}")


def _facts(known: Limits) -> list[tuple[str, str]]:
    memory = computer.memory()
    quota = computer.cpu_quota()
    granted = f" (quota {quota:g})" if quota is not None else ""
    return [
        ("processor", known.cpu),
        ("usable cores", f"{known.cores}{granted}"),
        ("instruction sets", " ".join(known.instruction_sets) or "portable"),
        ("caches", ", ".join(_cache(cache) for cache in computer.caches()) or "unknown"),
        ("memory", f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free"),
        ("timer", f"{known.timer_ns:.0f} ns"),
    ]


def _cache(cache: computer.Cache) -> str:
    letter = {"data": "d", "instruction": "i"}.get(cache.kind, "")
    return f"L{cache.level}{letter} {cache.size >> 10} KiB"


def _rows(known: Limits) -> list[tuple[str, ...]]:
    counts = sorted({count for name in QUANTITIES for count in known.figures(name)})
    return [
        (str(count), *(_cell(known.figures(name).get(count)) for name in QUANTITIES))
        for count in counts
    ]


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "not measured"
    spread = (figure.high - figure.low) / (2 * figure.median) if figure.median else 0.0
    return f"{figure.median:,.1f} ±{spread:.0%}"
