"""`overclock trace`: where every cycle of an answer went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overclock.cli import opening, options
from overclock.cli.output import note, print_json, print_table
from overclock.cli.run import prompt_of, read_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from overclock.trace.document import Json

DEFAULT_TOKENS = 64


@click.command()
@click.argument("texts", nargs=-1, required=True, metavar="PROMPT|TEXT...")
@click.option(
    "-m",
    "--model",
    metavar="NAME",
    help="As in `overclock run`.  [default: smollm2; with --encoder minilm]",
)
@click.option(
    "-n",
    "--max-tokens",
    type=click.IntRange(min=1),
    default=DEFAULT_TOKENS,
    show_default=True,
    metavar="N",
    help="Most tokens of an answer; with --streams exactly so many.",
)
@click.option(
    "--streams", type=click.IntRange(1, 4096), metavar="N", help="Trace N answers at once."
)
@click.option("--encoder", is_flag=True, help="Trace texts on their way to vectors.")
@click.option("--int8", is_flag=True, help="With --encoder: quantise the weights on load.")
@click.option("--system", metavar="TEXT", help="Instructions in front of the prompt.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without chat template.")
@click.option("--cold", is_flag=True, help="Trace the very first answer: no warm-up before it.")
@click.option("-o", "--output", metavar="FILE", help="Write the trace, for `overclock compare`.")
@click.option("--html", metavar="FILE", help="Write a page to look at: one file, no network.")
@click.option("--against", metavar="FILE", help="With --html: an older trace to compare with.")
@click.option("--perfetto", metavar="FILE", help="Write a file for the Perfetto UI.")
@options.engine
@options.as_json
def command(
    texts: tuple[str, ...],
    model: str | None,
    max_tokens: int,
    streams: int | None,
    encoder: bool,
    int8: bool,
    system: str | None,
    raw: bool,
    cold: bool,
    output: str | None,
    html: str | None,
    against: str | None,
    perfetto: str | None,
    engine: options.EngineOptions,
    as_json: bool,
) -> None:
    """Answer PROMPT (- reads it from stdin) and show where the time went.

    Every stage, every instruction: its time, what it computed and moved, the share it reached of
    what this computer can do, and what kept it from more. With --encoder, TEXTs become vectors.
    """
    if against is not None and html is None:
        raise click.UsageError("--against needs --html, whose page shows both traces")
    other = None if against is None else _read(against)
    for name in (output, html, perfetto):
        _check_place(name)
    if encoder:
        if streams is not None or raw or system is not None:
            raise click.UsageError("--streams, --raw and --system are for language models")
        found = _texts(texts, model or options.DEFAULT_ENCODER, int8, not cold, engine)
    else:
        if len(texts) > 1 or int8:
            raise click.UsageError("several TEXTs and --int8 go with --encoder")
        asked = _Asked(read_prompt(texts[0]), system, raw, max_tokens, streams, not cold)
        found = _answer(asked, model or options.DEFAULT_MODEL, engine)
    _write(found, other, output, html, perfetto)
    if as_json:
        print_json(found)
    else:
        show(found)


class _Asked:
    """What a language model is asked for."""

    def __init__(
        self,
        text: str,
        system: str | None,
        raw: bool,
        tokens: int,
        streams: int | None,
        warm: bool,
    ) -> None:
        if raw and system is not None:
            raise click.UsageError("--system needs the chat template that --raw leaves out")
        self.text, self.system, self.raw = text, system, raw
        self.tokens, self.streams, self.warm = tokens, streams, warm


def _answer(asked: _Asked, model: str, engine: options.EngineOptions) -> Json:
    from overclock.clock.settings import ClockSettings
    from overclock.tracing import trace_answer, trace_streams

    settings = ClockSettings(streams=max(64, asked.streams or 0))
    with opening.language_model(model, engine, settings) as llm:
        prompt = prompt_of(llm.model, asked.text, asked.system, asked.raw)
        adapter = next(iter(engine["adapters"]), None)
        if asked.streams is not None:
            return trace_streams(
                llm, prompt, asked.tokens, asked.streams, warm=asked.warm, adapter=adapter
            )
        found, completion = trace_answer(
            llm, prompt, asked.tokens, warm=asked.warm, adapter=adapter
        )
        note(completion.text.strip())
        return found


def _texts(
    texts: tuple[str, ...], model: str, int8: bool, warm: bool, engine: options.EngineOptions
) -> Json:
    from overclock.tracing import trace_texts

    threads, exact, machine = engine["threads"], engine["exact"], engine["machine"]
    with opening.encoder(model, threads, int8, exact, machine) as opened:
        return trace_texts(opened, texts, warm=warm)


def _check_place(name: str | None) -> None:
    """Raise UsageError before anything is traced if a file cannot be written there."""
    if name is not None and (Path(name).is_dir() or not Path(name).absolute().parent.is_dir()):
        raise click.UsageError(f"{name} cannot be written; name a file in a directory that exists")


def _read(name: str) -> Mapping[str, object]:
    from overclock.trace.reading import read_document

    return read_document(Path(name))


def _write(
    found: Json,
    other: Mapping[str, object] | None,
    output: str | None,
    html: str | None,
    perfetto: str | None,
) -> None:
    from overclock.files import write_atomic

    if output is not None:
        write_atomic(Path(output), json.dumps(found, separators=(",", ":")).encode())
        note(f"trace written to {output}")
    if html is not None:
        from overclock.trace.page import page

        before, after = (found, None) if other is None else (other, found)
        write_atomic(Path(html), page(before, after).encode())
        note(f"page written to {html}")
    if perfetto is not None:
        from overclock.trace.perfetto import perfetto as events

        write_atomic(Path(perfetto), events(found))
        note(f"open {perfetto} in the Perfetto UI")


def show(found: Mapping[str, object]) -> None:
    """The report on stdout."""
    from overclock.trace import report

    click.echo(report.headline(found))
    for line in (*report.why(found), *report.notes(found)):
        click.echo(line)
    for table in report.tables(found):
        click.echo()
        click.echo(click.style(table.title, bold=True))
        print_table(table.columns, table.rows)
