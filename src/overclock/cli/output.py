"""How commands show what they found: plain text when piped, rich on a terminal, JSON on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click


def print_json(value: object) -> None:
    """One JSON value on stdout; numbers that are not numbers become null."""
    click.echo(json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None
) -> None:
    """A table; columns after the first are set to the right. Tabs between them when piped."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)


def read_stdin() -> str:
    """All text of stdin; what is no UTF-8 becomes U+FFFD."""
    if sys.stdin is None:  # closed before the process began
        return ""
    return sys.stdin.buffer.read().decode(errors="replace")


def note(text: str) -> None:
    """A remark beside the result: on stderr, dim on a terminal."""
    click.echo(click.style(text, dim=True), err=True)


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while the body runs; it gets a function to call with done and total.

    Nothing is shown when stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
