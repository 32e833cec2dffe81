"""`overclock bench`: how fast a model is on this computer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from overclock.cli import opening, options
from overclock.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from overclock.bench import Result
    from overclock.model.model import Model


@click.command()
@options.model()
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Times that each figure is measured, after a warm-up.",
)
@click.option("--int8", is_flag=True, help="Quantise an encoder's weights on load.")
@options.engine
@options.as_json
def command(
    model: str, repetitions: int, int8: bool, engine: options.EngineOptions, as_json: bool
) -> None:
    """Measure prompt, generation, start-up and memory (an encoder: embeddings).

    Shares are of what `overclock doctor` has measured: operations for a prompt, memory bandwidth
    for generation. Close other programs first.
    """
    from overclock.cli.figures import peak_memory

    loaded = opening.load(model)
    if loaded.config.family == "bert":
        results = _encoder(loaded, repetitions, int8, engine)
    else:
        results = _language_model(loaded, model, repetitions, engine)
    if as_json:
        found = [asdict(result) for result in results]
        print_json({"model": model, "results": found, "peak_memory_bytes": peak_memory()})
        return
    print_table(("", "median", "lowest", "highest", "", "of the limit"), _rows(results))
    note(f"{peak_memory() / 1e6:,.0f} MB at most; medians of {repetitions} after a warm-up")


def _encoder(
    model: Model, repetitions: int, int8: bool, engine: options.EngineOptions
) -> list[Result]:
    from overclock import bench

    threads, exact, machine = engine["threads"], engine["exact"], engine["machine"]
    with opening.encoder(model, threads, int8, exact, machine) as encoder:
        return list(bench.encoder(encoder, repetitions))


def _language_model(
    model: Model, name: str, repetitions: int, engine: options.EngineOptions
) -> list[Result]:
    from overclock import bench
    from overclock.engine import LLM

    start = bench.start_up(_arguments(name, engine), repetitions)
    with LLM(model, **engine) as llm:
        return [
            *bench.language_model(llm, engine["threads"], engine["kv"], repetitions),
            start,
        ]


def _arguments(name: str, engine: options.EngineOptions) -> list[str]:
    """The options of `overclock run` that say the same."""
    arguments = ["-n", "1", "-m", name, "--kv", engine["kv"], "--machine", engine["machine"]]
    arguments += ["--exact"] if engine["exact"] else []
    arguments += ["--threads", str(engine["threads"])] if engine["threads"] else []
    arguments += ["--context", str(engine["context"])] if engine["context"] else []
    return arguments


def _rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    return [
        (
            result.name,
            f"{result.median:,.4g}",
            f"{result.low:,.4g}",
            f"{result.high:,.4g}",
            result.unit,
            "" if result.share is None else f"{result.share:.0%}",
        )
        for result in results
    ]
