"""`overclock ledger`: every prediction so far, and how far off it was."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from overclock.cli import options
from overclock.cli.output import note, print_json, print_table
from overclock.errors import InputError
from overclock.trace import ledger
from overclock.trace.ledger import Ledger, Prediction, Record
from overclock.trace.words import printable


@click.command()
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another ledger than that of the cache folder.",
)
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Show the last N only.")
@options.as_json
def command(path: Path | None, last: int | None, as_json: bool) -> None:
    """Show what was predicted, what was measured, and how far off each prediction was.

    The summary is of all predictions in the file, whatever is shown.
    """
    if path is not None and not path.exists():
        raise InputError(f"there is no file {path}")
    found = ledger.read(path)
    shown = found.predictions[-last:] if last else found.predictions
    if as_json:
        print_json(_record(found, shown))
        return
    if not found.predictions and not found.damaged:
        place = path or ledger.default_path()
        note(f"nothing has been predicted yet; what overclock predicts is written to {place}")
        return
    _print(found, shown)
    for each in found.damaged:
        note(f"line {each.line} is damaged and was left where it is: {printable(each.reason)}")


def _summaries(found: Ledger) -> dict[str, tuple[Record, ...]]:
    return {
        "quantities": ledger.records(found.predictions, lambda each: each.quantity),
        "changes": ledger.records(found.predictions, lambda each: each.what),
    }


def _record(found: Ledger, shown: tuple[Prediction, ...]) -> dict[str, object]:
    return {
        "predictions": [
            {**asdict(each), "error": each.error, "inside": each.is_inside} for each in shown
        ],
        "summary": {
            name: [asdict(each) for each in group] for name, group in _summaries(found).items()
        },
        "damaged": [asdict(each) for each in found.damaged],
    }


def _print(found: Ledger, shown: tuple[Prediction, ...]) -> None:
    columns = ("when", "model", "change", "quantity", "predicted", "interval", "measured", "error")
    print_table(columns, [_row(each) for each in shown])
    click.echo()
    rows = [_summary(each) for group in _summaries(found).values() for each in group]
    print_table(("", "predictions", "measured", "median error", "worst", "in interval"), rows)


def _row(each: Prediction) -> tuple[str, ...]:
    return (
        printable(each.when),
        *(printable(text, 40) for text in (each.model, each.what, each.quantity)),
        f"{each.predicted:,.4g}",
        f"{each.low:,.4g} … {each.high:,.4g}",
        "" if each.measured is None else f"{each.measured:,.4g}",
        "" if each.error is None else f"{each.error:+.1%}",
    )


def _summary(each: Record) -> tuple[str, ...]:
    return (
        printable(each.name, 60),
        str(each.count),
        str(each.measured),
        "" if each.error is None else f"{each.error:.1%}",
        "" if each.worst is None else f"{each.worst:+.1%}",
        "" if each.inside is None else f"{each.inside:.0%}",
    )
