"""Options that several commands have; each means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")
Decorator = Callable[[Callable[P, R]], Callable[P, R]]

DEFAULT_MODEL = "smollm2"
DEFAULT_ENCODER = "minilm"


def model(default: str = DEFAULT_MODEL) -> Decorator[P, R]:
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

machine = click.option("--machine", type=click.Choice(["native", "reference"]), hidden=True)


def sampling(function: Callable[P, R]) -> Callable[P, R]:
    """`--temperature`, `--top-k`, `--top-p`, `--min-p`, `--repetition-penalty` and `--seed`."""
    for option in reversed(_SAMPLING):
        function = option(function)
    return function


_SAMPLING = (
    click.option(
        "--temperature", type=float, default=0.0, show_default=True, help="0: the likeliest token."
    ),
    click.option("--top-k", type=int, default=None, help="Choose among the K likeliest."),
    click.option("--top-p", type=float, default=None, help="Choose among the likeliest with sum P."),
    click.option("--min-p", type=float, default=None, help="At least P times the likeliest."),
    click.option("--repetition-penalty", type=float, default=1.0, help="Above 1: repeat less."),
    click.option("--seed", type=int, default=None, help="Same seed, same tokens."),
)
