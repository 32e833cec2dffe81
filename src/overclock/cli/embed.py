"""`overclock embed`: texts become vectors."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overclock.cli import opening, options
from overclock.cli.output import note, print_json, read_stdin
from overclock.files import write_atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from overclock.machine.choose import MachineName

SHOWN = 4
"""Numbers of a vector that a terminal shows."""


@click.command()
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...|FILE|-")
@options.model(options.DEFAULT_ENCODER)
@click.option("--int8", is_flag=True, help="Quantise the weights on load: faster, and close.")
@click.option(
    "-o", "--output", metavar="FILE", help="Write a .npy file, f32[texts, width]; - for stdout."
)
@options.threads
@options.exact
@options.as_json
@options.machine
def command(
    texts: tuple[str, ...],
    model: str,
    int8: bool,
    output: str | None,
    threads: int | None,
    exact: bool,
    as_json: bool,
    machine: MachineName,
) -> None:
    """Print the embedding of each TEXT.

    A TEXT that is the name of a file stands for that file's lines; - stands for those of stdin.
    """
    if as_json and output is not None:
        raise click.UsageError("--json and --output exclude each other")
    lines = [line for text in texts for line in _lines(text)]
    with opening.encoder(model, threads, int8, exact, machine) as encoder:
        vectors = encoder.embed(lines)
        if as_json:
            name, rows = (
                encoder.model.name,
                [[round(x, 8) for x in row] for row in vectors.tolist()],
            )
            print_json({"model": name, "width": encoder.width, "embeddings": rows})
        elif output is not None:
            _write(vectors, output)
        else:
            _show(lines, vectors)


def _lines(text: str) -> list[str]:
    """The texts that one argument stands for."""
    if text == "-":
        data = read_stdin()
    elif _is_file(text):
        data = Path(text).read_bytes().decode(errors="replace")
    else:
        return [text]
    return [line for line in data.splitlines() if line.strip()]


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        return False


def _write(vectors: NDArray[np.float32], output: str) -> None:
    import numpy as np

    file = io.BytesIO()
    np.save(file, vectors)
    if output == "-":
        sys.stdout.buffer.write(file.getvalue())
        return
    write_atomic(Path(output), file.getvalue())
    note(f"{len(vectors)} × {vectors.shape[1]} numbers written to {output}")


def _show(lines: list[str], vectors: NDArray[np.float32]) -> None:
    """All numbers of a text on one line; on a terminal its first words and numbers."""
    for line, vector in zip(lines, vectors, strict=True):
        if sys.stdout.isatty():
            start = " ".join(f"{number:+.4f}" for number in vector[:SHOWN])
            click.echo(f"{line[:40]:40}  {start} …  ({len(vector)} numbers)")
        else:
            click.echo("\t".join(f"{number:.7g}" for number in vector))
