"""The list of commands; a command's file is imported only when it is called."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = (
    "run",
    "chat",
    "embed",
    "batch",
    "inspect",
    "explain",
    "doctor",
    "models",
    "pull",
    "evaluate",
    "bench",
    "trace",
    "compare",
    "whatif",
    "ledger",
    "simulate",
    "top",
)


class LazyGroup(click.Group):
    """A group whose command `name` is `command` in `overclock.cli.name`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"overclock.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"overclock {_version()}")
        ctx.exit()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("overclock")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "from a source tree"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and leave.",
)
def group() -> None:
    """Run a language model on the computer you have, and see where every cycle goes."""
