"""The live view of `overclock top`."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from overclock.machine.limits import Limits
from overclock.trace.board import Engine
from overclock.trace.rates import STAGES, Look, Rates, rates

MEMORY_S = 60.0
"""How long speeds are remembered."""

BAR = 40
SPARKS = "▁▂▃▄▅▆▇█"
COLOURS = ("cyan", "yellow", "green", "magenta")
OPCODES = 8
LEAST_SHARE = 0.005
"""An opcode with less is not worth its line."""


def watch(
    look: Callable[[], list[Look]], interval: float, known: Limits | None, nobody: str
) -> None:
    """Show what `look` finds, every `interval` seconds, until q or Ctrl-C.

    nobody: what to say while it finds nothing
    """
    view = View(interval, known, nobody)
    with (
        suppress(KeyboardInterrupt),
        _keys() as wait,
        Live(console=Console(), screen=True, auto_refresh=False) as live,
    ):
        while True:
            view.see(look())
            end = time.monotonic() + interval
            while (left := end - time.monotonic()) > 0:
                live.update(view.shown(), refresh=True)
                for key in wait(left):
                    if key == "q":
                        return
                    view.press(key)


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for keys, and gives those that came."""
    if not sys.stdin.isatty():
        yield _no_keys
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)
        yield lambda seconds: _wait(file, seconds)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _no_keys(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _wait(file: int, seconds: float) -> str:
    if not select.select([file], [], [], seconds)[0]:
        return ""
    keys = os.read(file, 64).decode(errors="ignore")
    return keys or "q"  # the terminal has gone


class View:
    """What is on the screen, and what was."""

    def __init__(self, interval: float, known: Limits | None, nobody: str) -> None:
        self._known = known
        self._nobody = nobody
        self._looks: dict[Engine, Look] = {}
        self._rates: dict[Engine, Rates | None] = {}
        self._speeds: dict[Engine, deque[float]] = {}
        self._most = max(2, min(BAR, int(MEMORY_S / interval)))
        self._place = 0

    def see(self, looks: Sequence[Look]) -> None:
        """Take in what was found now."""
        before, self._looks = self._looks, {look.engine: look for look in looks}
        self._rates = {
            look.engine: rates(before[look.engine], look, self._known)
            for look in looks
            if look.engine in before
        }
        self._speeds = {engine: self._remembered(engine) for engine in self._looks}

    def press(self, key: str) -> None:
        """Tab goes to the next engine."""
        if key == "\t":
            self._place += 1

    def shown(self) -> RenderableType:
        """All of it."""
        looks = list(self._looks.values())
        if not looks:
            return Group(Text(self._nobody), Text("\nq leaves", style="dim"))
        look = looks[self._place % len(looks)]
        parts = [_engines(looks, look)] if len(looks) > 1 else []
        keys = "q leaves, Tab shows the next engine" if len(looks) > 1 else "q leaves"
        return Group(*parts, self._details(look), Text(f"\n{keys}", style="dim"))

    def _remembered(self, engine: Engine) -> deque[float]:
        speeds = self._speeds.get(engine, deque(maxlen=self._most))
        found = self._rates.get(engine)
        if found is not None and found.seconds:
            speeds.append(found.tokens_per_s or found.prompt_tokens_per_s)
        return speeds

    def _details(self, look: Look) -> RenderableType:
        engine, figures = look.engine, look.figures
        found = self._rates.get(engine)
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row(Text(engine.short, style="bold"), _about(engine))
        table.add_row("tokens/s", _speed(found))
        table.add_row("", Text(sparkline(self._speeds[engine]), style="green"))
        table.add_row("tick", _tick(found))
        if found is not None and found.stages is not None:
            table.add_row("", bar(tuple(zip(found.stages, COLOURS))))
            table.add_row("", _legend(found.stages))
        table.add_row("requests", _requests(look, found))
        if engine.pages:
            parts = (figures.used_pages / engine.pages, figures.cached_pages / engine.pages)
            table.add_row("KV pages", bar(tuple(zip(parts, ("green", "blue")))))
            table.add_row("", Text(_pages(look)))
        table.add_row("memory", Text(f"{figures.memory / 1e6:,.0f} MB"))
        for place, (name, share) in enumerate(_opcodes(found)):
            line = Text(f"{name:<14}{share:>5.0%} ") + bar(((share, "green"),), BAR - 20)
            table.add_row("" if place else "opcodes", line)
        return table


def sparkline(values: Sequence[float]) -> str:
    """Numbers as a row of small bars, the highest as high as it goes."""
    most = max(values, default=0.0)
    if most <= 0:
        return SPARKS[0] * len(values)
    return "".join(SPARKS[min(7, int(8 * value / most))] for value in values)


def bar(parts: Sequence[tuple[float, str]], width: int = BAR) -> Text:
    """Shares of one in their colours, and what is left of it."""
    line = Text()
    for share, colour in parts:
        room = width - len(line)
        line.append("█" * max(0, min(room, round(width * share))), style=colour)
    line.append("░" * (width - len(line)), style="dim")
    return line


def _engines(looks: Sequence[Look], chosen: Look) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for name in ("pid", "model", "running", "waiting", "memory MB"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for look in looks:
        figures = look.figures
        cells = (look.engine.pid, look.engine.short, figures.running, figures.waiting)
        row = (*map(str, cells), f"{figures.memory / 1e6:,.0f}")
        table.add_row(*map(Text, row), style="reverse" if look is chosen else "")
    return Group(table, Text())


def _about(engine: Engine) -> Text:
    parts = [f"process {engine.pid}", f"{engine.machine} {engine.tier}".strip()]
    parts.append(f"{engine.threads} thread" + ("s" if engine.threads != 1 else ""))
    parts += [f"KV {engine.kv}"] if engine.kv else []
    return Text(" · ".join([*parts, "exact"] if engine.exact else parts))


def _speed(found: Rates | None) -> Text:
    if found is None:
        return Text("…")
    parts = [f"{found.tokens_per_s:,.1f}"]
    if found.prompt_tokens_per_s:
        parts.append(f"{found.prompt_tokens_per_s:,.1f} of prompts")
    if found.limit is not None:
        parts.append(f"{found.limit:.0%} of this computer's limit")
    return Text(" · ".join(parts))


def _tick(found: Rates | None) -> Text:
    if found is None or found.tick is None:
        return Text("idle" if found else "…")
    return Text(
        f"{1e3 * found.tick:,.2f} ms, {found.ticks / max(found.seconds, 1e-9):,.0f} a second"
    )


def _legend(stages: Sequence[float]) -> Text:
    return Text(" ").join(
        Text(f"{name} {share:.1%}", style=colour)
        for name, share, colour in zip(STAGES, stages, COLOURS, strict=True)
    )


def _requests(look: Look, found: Rates | None) -> Text:
    figures = look.figures
    text = f"{figures.running:,} running, {figures.waiting:,} waiting, {figures.requests:,} ended"
    if found is not None and found.accepted is not None:
        text += f"; {found.accepted:.0%} of guesses came true"
    return Text(text)


def _pages(look: Look) -> str:
    figures, engine = look.figures, look.engine
    return f"{figures.used_pages:,} in use, {figures.cached_pages:,} kept, of {engine.pages:,}"


def _opcodes(found: Rates | None) -> list[tuple[str, float]]:
    """The slowest opcodes and their shares of all."""
    if found is None:
        return []
    whole = sum(seconds for _, seconds in found.opcodes)
    shares = [(name, seconds / whole) for name, seconds in found.opcodes[:OPCODES]]
    return [(name, share) for name, share in shares if share >= LEAST_SHARE]
