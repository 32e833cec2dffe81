"""`overclock evaluate`: how well a model does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from overclock.cli import opening, options
from overclock.cli.output import print_json, print_table, progress, read_stdin


@click.group()
def command() -> None:
    """Measure how well a model does."""


@command.command()
@click.argument("file", metavar="FILE|-")
@options.model()
@click.option(
    "--window",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    metavar="N",
    help="Tokens that are seen together.",
)
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    metavar="N",
    help="Windows to take from the text.  [default: all]",
)
@options.engine
@options.as_json
def perplexity(
    file: str,
    model: str,
    window: int,
    windows: int | None,
    engine: options.EngineOptions,
    as_json: bool,
) -> None:
    """How surprised a model is by the text in FILE; lower is better.

    The text's tokens are taken in consecutive windows. The first token of a window is not scored;
    the model's BOS goes in front of each window if its tokenizer adds one.
    """
    from overclock.evaluate import perplexity as measure

    text = read_stdin() if file == "-" else Path(file).read_bytes().decode(errors="replace")
    with opening.language_model(model, engine) as llm, progress("windows") as show:
        result = measure(llm, text, window=window, windows=windows, progress=show)
    if as_json:
        print_json(asdict(result))
        return
    print_table(
        ("perplexity", "top-1", "tokens"),
        [(f"{result.perplexity:.4f}", f"{result.top1:.5f}", f"{result.tokens:,}")],
    )
