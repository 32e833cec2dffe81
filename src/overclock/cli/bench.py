"""`overclock bench`: how fast a model is on this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
@click.option(
    "--streams",
    type=options.Counts(),
    metavar="N,…",
    help="Measure so many requests generating at once, instead of one.",
)
@click.option(
    "--shared-prefix",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure the first token behind N tokens that another request has run.",
)
@click.option(
    "--long-prompt",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure the gaps between tokens of others while a prompt of N tokens comes.",
)
@options.engine
@options.as_json
def command(
    model: str,
    repetitions: int,
    int8: bool,
    streams: tuple[int, ...] | None,
    shared_prefix: int | None,
    long_prompt: int | None,
    engine: options.EngineOptions,
    as_json: bool,
) -> None:
    """Measure prompt, generation, start-up and memory (an encoder: embeddings).

    Shares are of what `overclock doctor` has measured: operations for a prompt, memory bandwidth
    for generation. Close other programs first.
    """
    from overclock import bench
    from overclock.cli.figures import peak_memory

    loaded = opening.load(model)
    together = streams or shared_prefix or long_prompt
    if together and loaded.config.family == "bert":
        raise click.UsageError("an encoder has no streams; leave --streams and the like out")
    if together:
        wanted = _Together(streams or (), shared_prefix, long_prompt)
        results = _streams(loaded, wanted, repetitions, engine)
    elif loaded.config.family == "bert":
        results = _encoder(loaded, repetitions, int8, engine)
    else:
        results = _language_model(loaded, model, repetitions, engine)
    memory = peak_memory()  # before the limits are measured, which takes some
    shares = bench.shares(results, engine["threads"])
    if as_json:
        found = [_record(*each) for each in zip(results, shares, strict=True)]
        print_json({"model": model, "results": found, "peak_memory_bytes": memory})
        return
    rows = [_row(*each) for each in zip(results, shares, strict=True)]
    print_table(("", "median", "lowest", "highest", "", "of the limit"), rows)
    note(f"{memory / 1e6:,.0f} MB at most; medians of {repetitions} after a warm-up")


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
            *bench.language_model(llm, engine["kv"], repetitions),
            start,
        ]


class _Together(NamedTuple):
    """What is measured of many requests at once."""

    streams: tuple[int, ...]
    shared_prefix: int | None
    long_prompt: int | None


def _streams(
    model: Model, wanted: _Together, repetitions: int, engine: options.EngineOptions
) -> list[Result]:
    from overclock import bench_streams
    from overclock.cli.figures import room
    from overclock.clock.settings import ClockSettings
    from overclock.engine import LLM

    results: list[Result] = []
    if wanted.streams:
        # Prompts first, so that all streams generate together for a while.
        first = ClockSettings(streams=max(wanted.streams), stretch=None)
        with opening.shown(LLM(model, settings=first, **engine)) as llm:
            note(room(llm))
            results += [
                bench_streams.streams(llm, count, engine["kv"], repetitions)
                for count in wanted.streams
            ]
    if wanted.shared_prefix is None and wanted.long_prompt is None:
        return results
    with opening.shown(LLM(model, **engine)) as llm:
        note(room(llm))
        if wanted.shared_prefix:
            results += bench_streams.shared_prefix(llm, wanted.shared_prefix, repetitions)
        if wanted.long_prompt:
            results += bench_streams.long_prompt(llm, wanted.long_prompt, repetitions)
    return results


def _arguments(name: str, engine: options.EngineOptions) -> list[str]:
    """The options of `overclock run` that say the same."""
    arguments = ["-n", "1", "-m", name, "--kv", engine["kv"], "--machine", engine["machine"]]
    arguments += ["--exact"] if engine["exact"] else []
    arguments += ["--threads", str(engine["threads"])] if engine["threads"] else []
    arguments += ["--context", str(engine["context"])] if engine["context"] else []
    arguments += ["--kv-memory", str(engine["kv_memory"])] if engine["kv_memory"] else []
    arguments += ["--draft", engine["draft"]] if engine["draft"] else []
    arguments += [word for pair in engine["adapters"].items() for word in _adapter(*pair)]
    return arguments


def _adapter(name: str, path: str) -> list[str]:
    return ["--adapter", f"{name}={path}"]


def _record(result: Result, share: float | None) -> dict[str, object]:
    return {
        "name": result.name,
        "unit": result.unit,
        "median": result.median,
        "low": result.low,
        "high": result.high,
        "limit_share": share,
    }


def _row(result: Result, share: float | None) -> tuple[str, ...]:
    values = (result.median, result.low, result.high)
    shown = "" if share is None else f"{share:.0%}"
    return result.name, *(f"{value:,.4g}" for value in values), result.unit, shown
