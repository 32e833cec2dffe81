"""The entry point: runs a command and turns whatever goes wrong into one line and an exit code.

Nothing is imported at the top but `os` and `sys`, so that an interrupt while the rest loads is
quiet too.
"""

from __future__ import annotations

import os
import sys

FAILURE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(arguments: list[str] | None = None) -> None:
    """Run `overclock` with `arguments` (default: the process's own) and leave the process.

    Exit codes: 0 done; 2 a mistake or circumstance, told in one line on stderr; 130 interrupted;
    141 the reader of the output has gone.
    """
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = BROKEN_PIPE
    except OSError as error:
        code = _fail(_reason(error))
    _leave(code)


def _run(arguments: list[str] | None) -> int:
    import click

    from overclock.cli.group import group
    from overclock.errors import OverclockError

    try:
        result = group.main(args=arguments, prog_name="overclock", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return FAILURE
    except OverclockError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("there is not enough memory; take a smaller model or a shorter context")


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(message: str) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"error: {line}\n")
    return FAILURE


def _leave(code: int) -> None:
    """End the process; output that nobody can take any more must not fail once again."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, sys.stdout.fileno())
    sys.exit(code)
