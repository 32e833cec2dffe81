"""The folder of fetched models: entries that are complete or not there, and locks.

models/entries/KEY/overclock.json   what the entry is; written last, before it gets its name
models/entries/KEY/…                the files themselves (none for models in another cache)
models/staging/KEY/                 an entry in the making, renamed when it is complete
models/partial/NAME                 the beginning of a download, kept so that it can go on
models/locks/KEY.lock               held while an entry is made
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from overclock.errors import SourceError
from overclock.model.origin import Progress
from overclock.settings import CACHE_VARIABLE, cache_directory

RECORD: Final = "overclock.json"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Record:
    """A model that is here. `path` is its GGUF file or its directory; `bytes` all its files."""

    source: str  # pypi:package==version …
    path: str
    bytes: int
    sha256: str | None  # of what was fetched, if it was one file
    fetched: str | None  # date and time, UTC; None for what never was elsewhere


def root() -> Path:
    """Where fetched models are kept."""
    return cache_directory() / "models"


def key_of(source: str) -> str:
    """A name for `source` that a file system takes, different for different sources."""
    readable = re.sub(r"[^A-Za-z0-9.=_-]+", "-", source)[:80].strip("-.")
    return f"{readable}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def find(source: str) -> Record | None:
    """The record of `source`, if it has been fetched and its files are still there."""
    return _read(root() / "entries" / key_of(source))


def records() -> list[Record]:
    """All models that are here, by source."""
    entries = root() / "entries"
    folders = entries.iterdir() if entries.is_dir() else ()
    found = (_read(folder) for folder in folders)
    return sorted((record for record in found if record), key=lambda record: record.source)


def _read(entry: Path) -> Record | None:
    try:
        record = Record(**json.loads((entry / RECORD).read_bytes()))
        path = entry / record.path  # an absolute path stays what it is
    except (OSError, ValueError, TypeError):
        return None
    if not path.exists():
        return None
    return Record(record.source, str(path), record.bytes, record.sha256, record.fetched)


@contextmanager
def locked(source: str, progress: Progress) -> Iterator[None]:
    """Hold the lock of `source`, so that two processes do not fetch it both."""
    path = root() / "locks" / f"{key_of(source)}.lock"
    with disk_errors(source):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that fetches this", 0, None)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def staging(source: str) -> Iterator[Path]:
    """An empty folder to make the entry of `source` in; gone afterwards, unless published."""
    folder = root() / "staging" / key_of(source)
    shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, source: str, path: Path, size: int, sha256: str | None) -> Record:
    """Give the finished `folder` its place as the entry of `source`; `path` is the model in it."""
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = Record(source, str(inside), size, sha256, now)
    with (folder / RECORD).open("w") as file:
        json.dump(asdict(record), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    entry = root() / "entries" / key_of(source)
    entry.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(entry, ignore_errors=True)
    folder.rename(entry)
    found = _read(entry)
    assert found is not None, f"{entry} was just written"
    return found


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def partial(name: str) -> Path:
    """The file for the beginning of a download called `name`."""
    folder = root() / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / re.sub(r"[^A-Za-z0-9._-]", "-", name)


@contextmanager
def disk_errors(source: str) -> Iterator[None]:
    """Turn what the file system refuses into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise SourceError(
                f"the disk is full: there is no room for {source} in {root()}; make room, "
                f"or set {CACHE_VARIABLE} to a folder on another disk"
            ) from error
        raise SourceError(
            f"{source} cannot be kept in {root()}: {error.strerror or error}; "
            f"set {CACHE_VARIABLE} to a folder you may write to"
        ) from error
