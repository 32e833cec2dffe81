"""What an answer must look like, from the options of a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from overclock.cli.output import read_stdin

if TYPE_CHECKING:
    from overclock.cli.options import GrammarOptions
    from overclock.clock.grammar import Grammar


def grammar(options: GrammarOptions) -> Grammar | None:
    """The grammar that the options name, None for none.

    Raises UsageError for more than one, InputError for a file that cannot be read or a grammar that
    is not one.
    """
    given = [name for name, value in options.items() if value]
    if not given:
        return None
    if len(given) > 1:
        names = " and ".join("--" + name.replace("_", "-") for name in given)
        raise click.UsageError(f"{names} cannot go together; an answer has one form")
    from overclock.clock import grammar as grammars

    if options["json_schema"]:
        return grammars.json_schema(_read(options["json_schema"]))
    if options["regex"]:
        return grammars.regex(options["regex"])
    if options["lark"]:
        return grammars.lark(_read(options["lark"]))
    return grammars.choice(options["choice"])


def _read(name: str) -> str:
    from overclock.errors import InputError

    if name == "-":
        return read_stdin()
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} cannot be read: {error}") from error
