"""`overclock compare`: what is faster or slower in one trace than in another."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overclock.cli import options
from overclock.cli.output import note, print_json, print_table
from overclock.files import write_atomic
from overclock.trace.words import printable

if TYPE_CHECKING:
    from overclock.trace.compare import Change, Comparison, Part

SHOWN = 15
"""Instructions that a terminal shows."""

KINDS = {"generation": "ticks that only generated", "prompt": "ticks that ran prompts or texts"}


@click.command()
@click.argument("first", metavar="A.json", type=click.Path(path_type=Path))
@click.argument("second", metavar="B.json", type=click.Path(path_type=Path))
@click.option(
    "--again",
    type=click.Path(path_type=Path),
    metavar="A2.json",
    help="Another trace of what A is of; what both differ by is noise.",
)
@click.option("--html", metavar="FILE", help="Write a page that shows both; one file, no network.")
@options.as_json
def command(first: Path, second: Path, again: Path | None, html: str | None, as_json: bool) -> None:
    """Say which instructions are faster or slower in trace B than in trace A.

    Only like ticks are compared: of the same kind, rows and length of context. What is told is
    larger than the noise within both traces: of all differences told, at most 5 % are chance. A
    computer that is slower from one run to the next looks like a change: trace A, B and A once
    more, and give the last with --again.
    """
    from overclock.trace.compare import compare
    from overclock.trace.reading import read_document

    twin = None if again is None else read_document(again)
    before, after = read_document(first), read_document(second)
    found = compare(before, after, twin)
    if html is not None:
        from overclock.trace.page import page

        write_atomic(Path(html), page(before, after).encode())
        note(f"page written to {html}")
    if as_json:
        print_json(_record(found))
        return
    for text in found.notes:
        note(printable(text))
    for part in found.parts:
        _print(part)
    _print_only("A", found.only_a)
    _print_only("B", found.only_b)


def _print(part: Part) -> None:
    low, high = part.rows
    rows = f"{low} rows" if low == high else f"{low} to {high} rows"
    if high == 1:
        rows = "1 row"
    a, b = part.ticks
    note(f"{KINDS[part.kind]}, {rows} each: {a:,} of A, {b:,} of B")
    shown = [part.whole, *part.stages, *part.opcodes, *_worth(part.instructions)]
    print_table(("", "layer", "A µs", "B µs", "B/A", "95 % interval", ""), [*map(_row, shown)])
    left = len(part.instructions) - len(_worth(part.instructions))
    if left:
        note(f"{left:,} more instructions are in --json, and when this is piped")


def _worth(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """All when piped; on a terminal those that moved, the largest first."""
    if not sys.stdout.isatty():
        return changes
    return tuple(each for each in changes if each.verdict in ("faster", "slower"))[:SHOWN]


def _row(change: Change) -> tuple[str, ...]:
    found = change.difference
    return (
        printable(change.name, 70),
        "" if change.layer is None else str(change.layer),
        f"{1e6 * change.a:,.2f}",
        f"{1e6 * change.b:,.2f}",
        "" if found is None else f"{found.ratio:.3f}",
        "" if found is None else f"{found.low:.3f} … {found.high:.3f}",
        change.verdict,
    )


def _print_only(name: str, instructions: tuple[str, ...]) -> None:
    if instructions:
        shown = ", ".join(printable(each, 60) for each in instructions[:3])
        more = ", …" if len(instructions) > 3 else ""
        note(f"{len(instructions):,} instructions are only in {name}: {shown}{more}")


def _record(found: Comparison) -> dict[str, object]:
    return {
        "notes": found.notes,
        "parts": [
            {
                "kind": part.kind,
                "rows": part.rows,
                "ticks": {"a": part.ticks[0], "b": part.ticks[1]},
                "tick": _change(part.whole),
                "stages": [*map(_change, part.stages)],
                "opcodes": [*map(_change, part.opcodes)],
                "instructions": [*map(_change, part.instructions)],
            }
            for part in found.parts
        ],
        "only_a": found.only_a,
        "only_b": found.only_b,
    }


def _change(change: Change) -> dict[str, object]:
    found = None if change.difference is None else asdict(change.difference)
    return {
        "name": change.name,
        "layer": change.layer,
        "a_s": change.a,
        "b_s": change.b,
        "difference": found,
        "q": change.q,
        "floor": change.floor,
        "verdict": change.verdict,
    }
