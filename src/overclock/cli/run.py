"""`overclock run`: one prompt, one answer, and what it took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from overclock.cli import opening, options, shape
from overclock.cli.output import note, print_json, read_stdin

if TYPE_CHECKING:
    from overclock.clock.completion import Completion, Piece
    from overclock.clock.sampling import SamplingOptions
    from overclock.model.model import Model


@click.command()
@click.argument("prompt")
@options.model()
@options.max_tokens
@click.option("--system", metavar="TEXT", help="Instructions in front of the prompt.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without chat template.")
@options.sampling
@options.stop
@click.option("--ignore-eos", is_flag=True, help="Go on when the model ends its answer.")
@options.grammar
@click.option("--logprobs", type=int, metavar="N", help="With --json: N likeliest of each token.")
@options.engine
@options.as_json
def command(
    prompt: str,
    model: str,
    max_tokens: int,
    system: str | None,
    raw: bool,
    sampling: SamplingOptions,
    stop: tuple[str, ...],
    ignore_eos: bool,
    grammar: options.GrammarOptions,
    logprobs: int | None,
    engine: options.EngineOptions,
    as_json: bool,
) -> None:
    """Answer PROMPT (- reads it from stdin), then show one line of figures on stderr."""
    from overclock.cli import figures

    if raw and system is not None:
        raise click.UsageError("--system needs the chat template that --raw leaves out")
    text = read_prompt(prompt)
    sampling["logprobs"] = logprobs
    with opening.language_model(model, engine) as llm:
        pieces = llm.generate(
            prompt_of(llm.model, text, system, raw),
            max_tokens,
            stream=True,
            stop=stop,
            ignore_eos=ignore_eos,
            adapter=next(iter(engine["adapters"]), None),
            grammar=shape.grammar(grammar),
            **sampling,
        )
        completion = _show(pieces, quiet=as_json)
        memory = figures.peak_memory()  # before the bandwidth is measured, which takes some
        share = figures.limit_share(llm, completion, engine["threads"], engine["kv"])
    if as_json:
        print_json(figures.as_record(completion, share))
    else:
        note(figures.line(completion, share, memory))


def read_prompt(argument: str) -> str:
    """The argument, or what stdin holds if it is ``-``. Raises InputError if there is no text."""
    from overclock.errors import InputError

    text = read_stdin() if argument == "-" else argument
    if not text.strip():
        raise InputError("the prompt is empty; give some text")
    return text


def prompt_of(model: Model, text: str, system: str | None, raw: bool) -> str | list[dict[str, str]]:
    """What a model is asked: messages for its chat template, unless it has none or `raw`."""
    if raw or (model.chat_template is None and system is None):
        return text
    messages = [{"role": "system", "content": system}] if system is not None else []
    return [*messages, {"role": "user", "content": text}]


def _show(pieces: Iterator[Piece], *, quiet: bool) -> Completion:
    """Write the answer as it comes, unless `quiet`; the whole of it."""
    completion = None
    for piece in pieces:
        if not quiet:
            click.echo(piece.text, nl=False)
        completion = piece.completion
    if not quiet:
        click.echo()
    assert completion is not None
    return completion
