"""What a batch has done so far, on disk, so that it can go on after whatever happened.

Beside the output while it is being made:

- ``OUT.partial`` and ``ERRORS.partial``: finished lines, each written whole and at once;
- ``OUT.journal``: what is being done (so that it cannot go on with another input or model); locked
  by the process that works on it.

A line that stands in a partial file is done, any other is not: nothing else needs to be known. In
the end the partial files get their names, and the journal goes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Self, TypeVar

from overclock.batch.lines import Line
from overclock.closing import Closing
from overclock.errors import InputError
from overclock.openai.errors import ApiError
from overclock.openai.objects import new_id

SYNC_S = 1.0
"""Seconds of work that a power cut may cost; a process that dies loses nothing."""

Header = Mapping[str, object]
"""What must be the same to go on, by the words that tell it."""

Record = Mapping[str, object]

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Files:
    """Where things go."""

    input: Path
    output: Path
    errors: Path

    def check(self) -> None:
        """Raise InputError if two of them are one file."""
        written = [self.output, self.errors]
        places = [self.input, self.journal, *written, *map(partial, written)]
        if len({path.resolve() for path in places}) < len(places):
            raise InputError(
                f"{self.input}, {self.output} and {self.errors} must be three different files"
            )

    @property
    def journal(self) -> Path:
        """What is being done."""
        return self.output.with_name(f"{self.output.name}.journal")


class Journal(Closing):
    """The files of a batch at work. One process has them at a time.

    answered: custom_ids of lines whose answers were there already; failed: numbers of lines whose
    errors were
    """

    def __init__(self, files: Files, header: Header, *, restart: bool = False) -> None:
        """Begin, or go on where another process stopped.

        restart: begin anew, over whatever is there

        Raises InputError if another process works on it, if the output is there already, or if what
        was begun is something else.
        """
        files.check()
        self._files = files
        with ExitStack() as stack:
            self._lock = stack.enter_context(_locked(files.journal))
            if restart:
                self._forget()
            self._begin(header)
            self._output = stack.enter_context(_Appended(files.output))
            self._errors = stack.enter_context(_Appended(files.errors))
            self.answered = set(self._output.recover(_custom_id))
            self.failed = set(self._errors.recover(_number))
            self._stack = stack.pop_all()

    def answer(self, line: Line, body: Mapping[str, object]) -> None:
        """Note a line's answer."""
        response = {"status_code": 200, "request_id": new_id("req_"), "body": body}
        record = {"id": new_id("batch_req_"), "custom_id": line.custom_id}
        self._output.append({**record, "response": response, "error": None})

    def fail(self, line: Line, error: ApiError) -> None:
        """Note why a line has no answer."""
        told = {**error.object(), "code": error.code or error.type, "line": line.number}
        response = {
            "status_code": error.status,
            "request_id": new_id("req_"),
            "body": error.body(),
        }
        record = {"id": new_id("batch_req_"), "custom_id": line.custom_id, "line": line.number}
        self._errors.append({**record, "response": response, "error": told})

    def finish(self) -> bool:
        """Give the files their names; whether there is a file of errors."""
        found = self._errors.size > 0
        if found:
            self._errors.finish()
        else:
            self._errors.remove()
        self._output.finish()
        self._files.journal.unlink()
        _sync_folder(self._files.journal.parent)
        return found

    def close(self) -> None:
        """Let go of the files; another process may go on with them."""
        self._stack.close()

    def _forget(self) -> None:
        for path in (self._files.output, self._files.errors):
            path.unlink(missing_ok=True)
            partial(path).unlink(missing_ok=True)
        self._lock.truncate(0)

    def _begin(self, header: Header) -> None:
        """Check or write the header, before there is anything else."""
        self._lock.seek(0)
        known = _parsed(self._lock.read())
        if known is None:
            self._check_free()
            self._lock.truncate(0)
            self._lock.seek(0)
            self._lock.write(json.dumps(header).encode() + b"\n")
            self._lock.flush()
            os.fsync(self._lock.fileno())
            _sync_folder(self._files.journal.parent)
            return
        self._check_same(known, json.loads(json.dumps(header)))
        for path in (self._files.output, self._files.errors):
            if path.exists() and not partial(path).exists():
                path.rename(partial(path))  # it died when it was giving the files their names

    def _check_free(self) -> None:
        """Nothing of somebody else's may be overwritten."""
        for path in (self._files.output, self._files.errors):
            for each in (path, partial(path)):
                if each.exists():
                    self._files.journal.unlink()
                    raise InputError(
                        f"{each} is there already; name another output, or begin anew over it "
                        "with --restart"
                    )

    def _check_same(self, known: Header, header: Header) -> None:
        output = self._files.output
        for what, value in header.items():
            if known.get(what) == value:
                continue
            if what == "input":
                raise InputError(
                    f"{self._files.input} has changed since {partial(output)} was begun; bring "
                    "the old file back, name another output, or begin anew with --restart"
                )
            raise InputError(
                f"{partial(output)} was begun with {what} {known.get(what)}, not {value}; go on "
                "with that, name another output, or begin anew with --restart"
            )


def partial(path: Path) -> Path:
    """Where a file is while it is being made."""
    return path.with_name(f"{path.name}.partial")


class _Appended:
    """A file to which whole lines of JSON are added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = partial(path)
        self._file = self._partial.open("a+b", buffering=0)
        self._synced = monotonic()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def recover(self, key: Callable[[Record], Key | None]) -> Iterator[Key]:
        """The keys of the lines that are there; a torn one and what is behind it is cut off."""
        self._file.seek(0)
        with self._partial.open("rb") as lines:
            for data in lines:
                found = key(_parsed(data) or {}) if data.endswith(b"\n") else None
                if found is None:
                    break
                self.size += len(data)
                yield found
        self._file.truncate(self.size)

    def append(self, record: Record) -> None:
        """Add a line."""
        data = memoryview(_written(record))
        self.size += len(data)
        while data:  # a disk that fills up takes a part
            data = data[self._file.write(data) :]
        if monotonic() - self._synced >= SYNC_S:
            os.fsync(self._file.fileno())
            self._synced = monotonic()

    def finish(self) -> None:
        """The file is complete: give it its name."""
        os.fsync(self._file.fileno())
        self._partial.rename(self._path)
        _sync_folder(self._path.parent)

    def remove(self) -> None:
        """There is nothing in it."""
        self._partial.unlink()


def _written(record: Record) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, written as \ud8…
        return json.dumps(record).encode() + b"\n"


def _parsed(data: bytes) -> Record | None:
    """The object of a line of ours; None if it is not whole."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _custom_id(record: Record) -> str | None:
    custom_id = record.get("custom_id")
    return custom_id if isinstance(custom_id, str) else None


def _number(record: Record) -> int | None:
    number = record.get("line")
    return number if type(number) is int else None


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """A file, made if need be, that no other process has locked."""
    while True:
        with path.open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"another process is working on {path.with_suffix('')}; wait for it, or name "
                    "another output"
                ) from error
            if _is(file, path):
                yield file
                return
        # Whoever had it has finished and removed it in the meantime.


def _is(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(path: Path) -> None:
    """Make the names in a folder as durable as the files."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
