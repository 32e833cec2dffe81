"""`overclock top`: what the engines on this computer do now."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict

import click

from overclock.cli import options
from overclock.cli.output import note, print_json, print_table
from overclock.errors import InputError
from overclock.machine import limits
from overclock.machine.limits import Limits
from overclock.trace import board
from overclock.trace.rates import STAGES, Look, Rates, rates

NOBODY = (
    "no engine shows itself: `overclock chat` and `batch` do while they run, and a program of your "
    "own with LLM(…, live=True), Encoder(…, live=True) or OVERCLOCK_LIVE=1"
)

COLUMNS = (
    *("pid", "model", "tokens/s", "prompt tokens/s", "of the limit", "tick ms"),
    *("running", "waiting", "KV pages", "memory MB", "stages", "slowest opcodes"),
)
SHOWN_OPCODES = 3


@click.command()
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="Only this process.")
@click.option("--once", is_flag=True, help="Print what happened in one interval, and leave.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600.0),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks.",
)
@options.as_json
def command(pid: int | None, once: bool, interval: float, as_json: bool) -> None:
    """Watch the engines that run on this computer: speed, ticks, KV pages, opcodes.

    q or Ctrl-C leaves, Tab goes to the next engine. Without a terminal, or with --json, it is
    --once.
    """
    known = _limits()
    if once or as_json or not sys.stdout.isatty():
        _once(pid, interval, as_json, known)
        return
    from overclock.cli.top_view import watch

    if pid is not None:
        looks(pid)  # nobody to watch is a mistake
    watch(lambda: looks(pid, must=False), interval, known, NOBODY)


def looks(pid: int | None, *, must: bool = True) -> list[Look]:
    """All engines that run, or those of one process; InputError if it `must` have one."""
    found = [each for each in board.find() if pid in (None, each.engine.pid)]
    if pid is not None and must and not found:
        raise InputError(f"process {pid} has no engine that shows itself; {_others()}")
    return [Look(each.engine, each.figures, time.perf_counter()) for each in found]


def _others() -> str:
    pids = sorted({each.engine.pid for each in board.find()})
    return f"those that do are {', '.join(map(str, pids))}" if pids else NOBODY


def _limits() -> Limits | None:
    try:
        return limits.cached()
    except ImportError:  # the native machine is not built
        return None


def _once(pid: int | None, interval: float, as_json: bool, known: Limits | None) -> None:
    before = {look.engine: look for look in looks(pid)}
    if before:
        time.sleep(interval)
    after = looks(pid) if before else []
    pairs = [(look, _between(before.get(look.engine), look, known)) for look in after]
    if as_json:
        print_json({"engines": [_record(look, found) for look, found in pairs]})
    elif not pairs:
        note(NOBODY)
    else:
        _print(pairs)


def _between(before: Look | None, after: Look, known: Limits | None) -> Rates | None:
    return None if before is None else rates(before, after, known)


def _record(look: Look, found: Rates | None) -> dict[str, object]:
    engine, figures = look.engine._asdict(), look.figures._asdict()
    for name in ("born", "namespace", "opcodes"):
        del engine[name]
    seconds = dict(zip(look.engine.opcodes, figures.pop("seconds"), strict=True))
    del figures["at"]
    record = None if found is None else asdict(found)
    if record is not None and found is not None:
        record["stages"] = found.stages and dict(zip(STAGES, found.stages, strict=True))
        record["opcodes"] = dict(found.opcodes)
    return {**engine, "figures": figures | {"opcode_seconds": seconds}, "rates": record}


def _print(pairs: list[tuple[Look, Rates | None]]) -> None:
    print_table(COLUMNS, [_row(look, found) for look, found in pairs])


def _row(look: Look, found: Rates | None) -> tuple[str, ...]:
    engine, figures = look.engine, look.figures
    return (
        str(engine.pid),
        engine.short,
        f"{found.tokens_per_s:,.1f}" if found else "",
        f"{found.prompt_tokens_per_s:,.1f}" if found else "",
        f"{found.limit:.0%}" if found and found.limit is not None else "",
        f"{1e3 * found.tick:,.2f}" if found and found.tick is not None else "",
        str(figures.running),
        str(figures.waiting),
        f"{figures.used_pages:,} + {figures.cached_pages:,} of {engine.pages:,}",
        f"{figures.memory / 1e6:,.0f}",
        _shares(zip(STAGES, found.stages, strict=True)) if found and found.stages else "",
        _slowest(found) if found else "",
    )


def _slowest(found: Rates) -> str:
    """The opcodes that took the most, with their shares of all."""
    whole = sum(seconds for _, seconds in found.opcodes)
    return _shares((name, seconds / whole) for name, seconds in found.opcodes[:SHOWN_OPCODES])


def _shares(parts: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in parts)
