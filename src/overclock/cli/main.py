"""The entry point: runs a command and turns whatever goes wrong into one line and an exit code.

Little is imported at the top, so that an interrupt while the rest loads is quiet too.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import click

FAILURE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE

# Opening a model makes some hundred thousand objects that stay. To look for garbage whenever 700
# (the default) have been made takes a tenth of the start, and finds none.
GARBAGE_AFTER = 200_000


def main(arguments: list[str] | None = None) -> None:
    """Run `overclock` with `arguments` (default: the process's own) and leave the process.

    Exit codes: 0 done; 2 a mistake or circumstance, told in one line on stderr; 130 interrupted;
    141 the reader of the output has gone.
    """
    _prepare_process()
    try:
        code = _run(arguments)
        _flush(sys.stdout)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = BROKEN_PIPE
    except OSError as error:
        code = _fail(_reason(error))
    _leave(code)


def _prepare_process() -> None:
    """Set what must be set before the libraries are imported."""
    gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])
    # NumPy's OpenBLAS starts a thread for every other core when it is imported, and these spin for
    # as long as the import takes. Only the reference machine has products for it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _run(arguments: list[str] | None) -> int:
    import click

    from overclock.cli.group import group
    from overclock.errors import OverclockError

    try:
        # Not group.main(): it would take broken pipes and interrupts for failures.
        with group.make_context(
            "overclock", sys.argv[1:] if arguments is None else arguments
        ) as ctx:
            group.invoke(ctx)
        return 0
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as asked:
        asked.show()
        return FAILURE
    except click.UsageError as error:
        return _fail(_with_help(error.format_message(), error.ctx))
    except click.ClickException as error:
        return _fail(error.format_message())
    except OverclockError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("there is not enough memory; take a smaller model or a shorter context")


def _with_help(message: str, context: click.Context | None) -> str:
    command = "overclock" if context is None else context.command_path
    return f"{message.rstrip('.')}; see {command} --help"


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(message: str) -> int:
    line = " ".join(message.split())
    with suppress(OSError):  # nobody may be left to read it
        print(f"error: {line}", file=sys.stderr, flush=True)
    return FAILURE


def _flush(stream: TextIO | None) -> None:
    if stream is not None:  # None: closed before the process began
        stream.flush()


def _leave(code: int) -> None:
    """End the process; output that nobody can take any more must not fail once again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            _flush(stream)
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
