"""`overclock models`: which models have a short name, and which are on this computer."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from overclock.cli import options
from overclock.cli.output import note, print_json, print_table
from overclock.cli.pull import megabytes

if TYPE_CHECKING:
    from overclock.model.cache import Record


@click.command()
@options.as_json
def command(as_json: bool) -> None:
    """List the models that have a short name, and those that are on this computer."""
    from overclock.model import cache

    listed = _listed()
    if as_json:
        print_json([_record(name, source, record) for name, source, record in listed])
        return
    print_table(("name", "size", "from"), [_row(*entry) for entry in listed])
    note(f"kept in {cache.root()}")


def _listed() -> list[tuple[str, str, Record | None]]:
    """Name, source and record of every alias, then of whatever else is here."""
    from overclock.model import cache
    from overclock.model.source import ALIASES

    known = {str(source): name for name, source in ALIASES.items()}
    here = {record.source: record for record in cache.records()}
    aliases = [(name, source, here.get(source)) for source, name in known.items()]
    return aliases + [(s, s, record) for s, record in here.items() if s not in known]


def _row(name: str, source: str, record: Record | None) -> tuple[str, str, str]:
    return name, megabytes(record.bytes) if record else "not fetched", source.partition("#")[0]


def _record(name: str, source: str, record: Record | None) -> dict[str, object]:
    found = {"path": None, "bytes": None, "sha256": None, "fetched": None}
    if record is not None:
        found = asdict(record)
    return {"name": name, **found, "source": source, "cached": record is not None}
