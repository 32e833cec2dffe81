"""Options that several commands have; each means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, TypedDict

import click

if TYPE_CHECKING:
    from overclock.machine.choose import MachineName
    from overclock.program.program import KvFormat

Command = Callable[..., None]
Decorator = Callable[[Command], Command]

DEFAULT_MODEL = "smollm2"
DEFAULT_ENCODER = "minilm"


class EngineOptions(TypedDict):
    """How a language model is opened; the names are those of `LLM`."""

    threads: int | None
    exact: bool
    kv: KvFormat
    context: int | None
    machine: MachineName


def model(default: str = DEFAULT_MODEL) -> Decorator:
    """`-m/--model`: an alias, a path, `pypi:package==version` or `hf:owner/name[:file]`."""
    return click.option(
        "-m",
        "--model",
        default=default,
        show_default=True,
        metavar="NAME",
        help="An alias, a path, pypi:package==version or hf:owner/name[:file].",
    )


threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads to compute with.  [default: all cores that may be used]",
)

exact = click.option("--exact", is_flag=True, help="Keep activations in f32: slower, for checking.")

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")

machine = click.option(
    "--machine", type=click.Choice(["native", "reference"]), default="native", hidden=True
)

max_tokens = click.option(
    "-n",
    "--max-tokens",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    metavar="N",
    help="Most tokens of an answer.",
)

stop = click.option(
    "--stop", multiple=True, metavar="TEXT", help="End the answer here; can be repeated."
)

kv = click.option(
    "--kv",
    type=click.Choice(["f32", "f16", "i8"]),
    default="f16",
    show_default=True,
    help="Format of the KV cache.",
)

context = click.option(
    "--context",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens to make room for.  [default: the model's own, at most 8192]",
)

_SAMPLING = (
    click.option(
        "--temperature",
        type=float,
        default=0.0,
        show_default=True,
        help="Above 0: choose by chance, the freer the higher.",
    ),
    click.option("--top-k", type=int, metavar="K", help="Choose among the K likeliest."),
    click.option("--top-p", type=float, metavar="P", help="Choose among the likeliest of sum P."),
    click.option("--min-p", type=float, metavar="P", help="At least P times the likeliest."),
    click.option(
        "--repetition-penalty",
        type=float,
        default=1.0,
        show_default=True,
        help="Above 1: repeat less.",
    ),
    click.option("--seed", type=int, metavar="N", help="Same seed, same tokens."),
)


def engine(function: Command) -> Command:
    """`--threads --exact --kv --context`, given to the command as one `engine: EngineOptions`."""
    names = ("threads", "exact", "kv", "context", "machine")
    return _bundle(function, "engine", names, (threads, exact, kv, context, machine))


def sampling(function: Command) -> Command:
    """`--temperature` … `--seed`, given to the command as one `sampling: SamplingOptions`."""
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    return _bundle(function, "sampling", names, _SAMPLING)


def _bundle(
    function: Command, argument: str, names: tuple[str, ...], options: tuple[Decorator, ...]
) -> Command:
    @wraps(function)
    def command(**values: object) -> None:
        bundle = {name: values.pop(name) for name in names}
        function(**values, **{argument: bundle})

    bundled: Command = command
    for option in reversed(options):
        bundled = option(bundled)
    return bundled
