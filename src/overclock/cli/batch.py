"""`overclock batch`: a file of requests becomes a file of answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from overclock.cli import opening, options
from overclock.cli.output import note, print_json

if TYPE_CHECKING:
    from overclock.batch.run import Models, Tally
    from overclock.engine import LLM

PLAIN_SECONDS = 10.0
"""Between two lines about how far it is when stderr is no terminal."""

SOME_FAILED = 1


@click.command()
@click.argument("input", metavar="IN.jsonl", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT.jsonl", type=click.Path(path_type=Path))
@options.model()
@click.option(
    "--encoder",
    default=options.DEFAULT_ENCODER,
    show_default=True,
    metavar="NAME",
    help="What answers /v1/embeddings.",
)
@click.option(
    "--errors",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where lines go that have no answer.  [default: OUT.jsonl.errors.jsonl]",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    metavar="N",
    help="Requests that run at once.",
)
@click.option(
    "-n",
    "--max-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most tokens of a chat's answer if its line does not say.  [default: what fits]",
)
@click.option("--restart", is_flag=True, help="Begin anew, over what is there.")
@options.engine
@options.as_json
def command(
    input: Path,
    output: Path,
    model: str,
    encoder: str,
    errors: Path | None,
    streams: int,
    max_tokens: int | None,
    restart: bool,
    engine: options.EngineOptions,
    as_json: bool,
) -> None:
    """Answer every request of IN.jsonl, a file in OpenAI's batch format.

    The models are those named here, whatever the lines say. Answers come in the order in which
    they are done; their custom_id says whose they are. If the process dies or is stopped, the
    same command goes on where it was.

    Exit codes: 0 all lines have answers; 1 some are in the file of errors instead, each with its
    number; 2 nothing could be done, or not go on.
    """
    from overclock.batch.journal import Files
    from overclock.batch.run import run_batch

    files = Files(input, output, errors or output.with_name(f"{output.name}.errors.jsonl"))
    settings = {
        "--model": model,
        "--encoder": encoder,
        "--max-tokens": max_tokens,
        "--exact": engine["exact"],
        "--kv": engine["kv"],
    }
    try:
        with _progress() as show:
            tally = run_batch(
                files,
                _models(model, encoder, streams, max_tokens, engine),
                settings,
                restart=restart,
                progress=show,
            )
    except KeyboardInterrupt:
        note("stopped; the same command goes on from here")
        raise
    _report(tally, files.output, files.errors, as_json)
    if tally.failed:
        click.get_current_context().exit(SOME_FAILED)


def _models(
    model: str,
    encoder: str,
    streams: int,
    max_tokens: int | None,
    engine: options.EngineOptions,
) -> Models:
    from overclock.batch.run import Models, throughput

    return Models(
        llm=lambda: _stated(opening.language_model(model, engine, throughput(streams))),
        encoder=lambda: opening.encoder(
            encoder, engine["threads"], False, engine["exact"], engine["machine"]
        ),
        max_tokens=max_tokens,
    )


def _stated(llm: LLM) -> LLM:
    from overclock.cli.figures import room

    note(room(llm))
    return llm


def _report(tally: Tally, output: Path, errors: Path, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "lines": tally.lines,
                "answered": tally.answered,
                "failed": tally.failed,
                "resumed": tally.resumed,
                "prompt_tokens": tally.prompt_tokens,
                "completion_tokens": tally.completion_tokens,
                "seconds": tally.seconds,
                "completion_tokens_per_s": tally.tokens_per_s,
                "output": str(output),
                "errors": str(errors) if tally.failed else None,
            }
        )
        return
    note(f"{_line(tally)} · {tally.seconds:,.1f} s → {output}")
    if tally.failed:
        note(f"{tally.failed:,} lines have no answer: see {errors}")


def _line(tally: Tally) -> str:
    """How far it is, in one line."""
    parts = [f"{tally.done:,} of {tally.lines:,} lines"]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    parts.append(f"{tally.prompt_tokens:,} + {tally.completion_tokens:,} tokens")
    if tally.tokens_per_s is not None:
        parts.append(f"{tally.tokens_per_s:,.1f} tokens/s")
    return " · ".join(parts)


@contextmanager
def _progress() -> Iterator[Callable[[Tally], None]]:
    """Shows how far a batch is, on stderr: a bar on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines().tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda tally: bars.update(
            task, description=_line(tally), completed=tally.done, total=tally.lines
        )


class _Lines:
    def __init__(self) -> None:
        self._told = monotonic()

    def tell(self, tally: Tally) -> None:
        """Write a line unless the last one is too recent."""
        if monotonic() - self._told >= PLAIN_SECONDS:
            self._told = monotonic()
            note(_line(tally))
