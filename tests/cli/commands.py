"""Run commands, in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.checkpoints import FIXTURES

SOURCE = Path(__file__).parents[2] / "src"
LLAMA = ["-m", str(FIXTURES / "llama"), "--machine", "reference"]
ENCODER = ["-m", str(FIXTURES / "bert-mean"), "--machine", "reference"]


def environment() -> dict[str, str]:
    """This process's, with the package of this checkout unless another one is installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(SOURCE)])}


def start(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """`overclock` in a process of its own."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "overclock", *arguments],
        env=environment(),
        **{**streams, **options},
    )


def run(*arguments: str, stdin: bytes = b"", **options: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `overclock` in a process of its own."""
    with start(*arguments, **options) as process:
        out, err = process.communicate(stdin, timeout=120)
    return process.returncode, (out or b"").decode(), (err or b"").decode()
