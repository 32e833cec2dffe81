"""The board: a small file on which a running engine keeps its figures for whoever looks.

    0     what the engine is: written once, before the file gets its name
    1024  sequence u64, checksum u32 of what follows, and the figures, written over and over
    4096  the end

The sequence is odd while the figures are being written (a seqlock, as Linux has it for its time of
day); a reader that sees it odd or changed reads again. The checksum is for processors that reorder
stores. A file is read as if it wanted harm: what is not exactly a board is none.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from math import isfinite
from pathlib import Path
from struct import Struct
from time import sleep
from typing import NamedTuple
from zlib import crc32

from overclock.errors import InputError
from overclock.settings import cache_directory
from overclock.trace.words import printable

MAGIC = b"ocboard\n"
VERSION = 1
SIZE = 4096
FIGURES_AT = 1024
NAME_BYTES = 96
MOST_OPCODES = 32

_HEAD = Struct(f"<8sII QQQd {NAME_BYTES}s16s16s16s16s QQQQQ BB")
_OPCODES_AT = 512
_OPCODE = Struct("<16s")
_LOCK = Struct("<QI4x")
_NUMBERS = Struct("<Q4d13Q2d")
_SECONDS = Struct(f"<{MOST_OPCODES}d")
_BODY_AT = FIGURES_AT + _LOCK.size
_BODY_END = _BODY_AT + _NUMBERS.size + _SECONDS.size

LATEST = 1e11
"""Seconds since 1970 that no clock shows for some thousand years."""

TRIES = 200
PAUSE_S = 0.0002
"""Between two tries to read figures that are just being written."""

_opened = count()


class Engine(NamedTuple):
    """What an engine is. It does not change.

    pid, born, namespace: its process, when that began (clock ticks of the kernel, so that another
    process with the same number is not taken for it) and whose numbers these are
    opened: seconds since 1970
    kind: llm or encoder; tier, kv: empty if there is none
    pages, page_bytes: of the KV cache
    weight_bytes: bytes of weights that a run reads; row_operations: those that a row takes at least
    exact: products are of f32 numbers
    opcodes: those that the figures have seconds of
    """

    pid: int
    born: int
    namespace: int
    opened: float
    model: str
    kind: str
    machine: str
    tier: str
    kv: str
    threads: int
    pages: int
    page_bytes: int
    weight_bytes: int
    row_operations: int
    exact: bool
    opcodes: tuple[str, ...]

    @property
    def short(self) -> str:
        """The model's name without the folders before it."""
        return self.model.rstrip("/").rpartition("/")[2] or self.model


class Figures(NamedTuple):
    """How far an engine is. Times are in seconds, counts since it was opened unless it is said.

    ticks, and what their four stages took; runs: ticks in which the machine ran, with `rows` in all
    tokens: generated; prompt_tokens: run of prompts or texts
    drafted, accepted: guesses of requests that have ended, and those that came true
    requests: that have ended; running, waiting, used_pages, cached_pages: now
    pages_read: sum of the pages that were in use in each run
    memory: bytes of the process in memory; tick_s: the last tick
    at: when the last tick ended, on the monotonic clock
    seconds: of each opcode
    """

    ticks: int = 0
    fetch: float = 0.0
    decode: float = 0.0
    execute: float = 0.0
    write_back: float = 0.0
    runs: int = 0
    rows: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    requests: int = 0
    running: int = 0
    waiting: int = 0
    used_pages: int = 0
    cached_pages: int = 0
    pages_read: int = 0
    memory: int = 0
    tick_s: float = 0.0
    at: float = 0.0
    seconds: tuple[float, ...] = ()

    @property
    def is_busy(self) -> bool:
        """Whether there is something to do."""
        return self.running + self.waiting > 0

    @property
    def stages(self) -> tuple[float, float, float, float]:
        """Seconds of the four stages."""
        return self.fetch, self.decode, self.execute, self.write_back


NOTHING = Figures()


class Reading(NamedTuple):
    """What stood on a board."""

    path: Path
    engine: Engine
    figures: Figures


class Board:
    """The writer's side. It belongs to the process that made it."""

    def __init__(self, engine: Engine) -> None:
        """Put a board up for `engine`. Raises InputError if there is no place for it."""
        self._pid = engine.pid
        self._sequence = 0
        try:
            folder = _made(folders()[0])
            self.path = folder / f"{engine.pid}-{next(_opened)}.board"
            self._map = _create(self.path, _packed(engine))
        except OSError as error:
            raise InputError(
                f"the engine cannot show itself in {folders()[0]}: {error.strerror or error}; set "
                "XDG_RUNTIME_DIR or OVERCLOCK_CACHE to a folder you may write to"
            ) from error

    def write(self, figures: Figures) -> None:
        """Replace the figures; `figures.seconds` has one number for each of the engine's opcodes.

        One thread at a time.
        """
        missing = MOST_OPCODES - len(figures.seconds)
        body = _NUMBERS.pack(*figures[:-1])
        body += _SECONDS.pack(*figures.seconds, *[0.0] * missing)
        self._sequence += 2
        _LOCK.pack_into(self._map, FIGURES_AT, self._sequence - 1, 0)
        self._map[_BODY_AT:_BODY_END] = body
        _LOCK.pack_into(self._map, FIGURES_AT, self._sequence, crc32(body))

    def close(self) -> None:
        """Take the board down; writing on goes nowhere. A fork of its process leaves it alone."""
        if os.getpid() == self._pid:
            with suppress(OSError):
                self.path.unlink()


def folders() -> list[Path]:
    """Where boards can be, the best place first: the user's runtime folder, then the cache."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    places = [cache_directory() / "live"]
    if runtime.is_absolute() and os.access(runtime, os.W_OK | os.X_OK):
        places.insert(0, runtime / "overclock")
    return places


def find() -> list[Reading]:
    """The boards of all engines that run now, the oldest first. Those of dead ones are removed."""
    found = [reading for path in _paths() if (reading := read(path)) is not None]
    return sorted(filter(_is_up, found), key=lambda reading: reading.engine.opened)


def read(path: Path) -> Reading | None:
    """What stands on a board; None if the file is no board of this version and this user."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or (about.st_size, about.st_uid) != (SIZE, os.getuid()):
            return None
        engine = _engine(os.pread(file, FIGURES_AT, 0))
        return Reading(path, engine, _figures(file, len(engine.opcodes)))
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


def process_start(pid: int | str) -> int | None:
    """When a process began, in clock ticks since the system started; None if there is none.

    Field 22 of `/proc/PID/stat` (proc(5)); a process that has ended but is not buried is none.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
        state, *fields = text[text.rindex(b")") + 1 :].split()
        return None if state in (b"Z", b"X") else int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


def namespace() -> int:
    """Which numbering of processes this one lives in; 0 where the system does not say."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - a link to no file
    except OSError:
        return 0


def _paths() -> Iterator[Path]:
    for folder in folders():
        with suppress(OSError):
            yield from sorted(folder.glob("*.board"))


def _is_up(reading: Reading) -> bool:
    """Whether the engine still runs. One of another container cannot be seen from here."""
    engine = reading.engine
    if engine.namespace != namespace():
        return False
    if process_start(engine.pid) == engine.born:
        return True
    with suppress(OSError):
        reading.path.unlink()
    return False


def _made(folder: Path) -> Path:
    """The folder, there and nobody else's."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        raise OSError(f"{folder} is not a folder of yours")
    return folder


def _create(path: Path, head: bytes) -> mmap.mmap:
    """A new file that gets its name when it is complete."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # of a process with the same number that was killed
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(part, flags, 0o600)
    try:
        # All bytes are written, so that no store into the map finds the disk full.
        if os.write(file, head.ljust(SIZE, b"\0")) != SIZE:
            raise OSError("the disk is full")
        mapped = mmap.mmap(file, SIZE)
        part.replace(path)
        return mapped
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def _packed(engine: Engine) -> bytes:
    name = engine.model.encode(errors="replace")[-NAME_BYTES:].decode(errors="ignore")
    words = (name, engine.kind, engine.machine, engine.tier, engine.kv)
    numbers = engine[9:14]
    head = _HEAD.pack(
        *(MAGIC, VERSION, SIZE),
        *engine[:4],
        *(word.encode(errors="replace") for word in words),
        *numbers,
        engine.exact,
        len(engine.opcodes),
    )
    opcodes = b"".join(_OPCODE.pack(name.encode()) for name in engine.opcodes)
    return head.ljust(_OPCODES_AT, b"\0") + opcodes


def _engine(head: bytes) -> Engine:
    """Raises ValueError if it is no head of a board."""
    if len(head) != FIGURES_AT:
        raise ValueError("too short")
    magic, version, size, pid, born, space, opened, *rest = _HEAD.unpack_from(head)
    words, numbers, (exact, count) = rest[:5], rest[5:10], rest[10:]
    if (magic, version, size) != (MAGIC, VERSION, SIZE) or count > MOST_OPCODES or exact > 1:
        raise ValueError("no board of this version")
    if not 0 <= opened < LATEST:
        raise ValueError("a date that is none")
    names = _OPCODE.iter_unpack(head[_OPCODES_AT : _OPCODES_AT + _OPCODE.size * count])
    opcodes = tuple(_word(name) for (name,) in names)
    process = pid, born, space, opened
    return Engine._make((*process, *map(_word, words), *numbers, bool(exact), opcodes))


def _word(data: bytes) -> str:
    """Text of a fixed number of bytes; a character that was cut at the end is left out."""
    return printable(data.rstrip(b"\0").decode(errors="ignore"))


def _figures(file: int, opcodes: int) -> Figures:
    """The figures once they stand still. Raises ValueError if they do not, or are none."""
    for _ in range(TRIES):
        data = os.pread(file, _BODY_END - FIGURES_AT, FIGURES_AT)
        if len(data) != _BODY_END - FIGURES_AT:
            raise ValueError("too short")
        sequence, checksum = _LOCK.unpack_from(data)
        after = os.pread(file, _LOCK.size, FIGURES_AT)
        if sequence == 0:
            return NOTHING._replace(seconds=(0.0,) * opcodes)
        body = data[_LOCK.size :]
        if sequence % 2 == 0 and after == data[: _LOCK.size] and checksum == crc32(body):
            return _checked(body, opcodes)
        sleep(PAUSE_S)
    raise ValueError("the figures never stood still")


def _checked(body: bytes, opcodes: int) -> Figures:
    numbers = _NUMBERS.unpack_from(body)
    seconds = _SECONDS.unpack_from(body, _NUMBERS.size)[:opcodes]
    if not all(isfinite(each) and each >= 0 for each in (*numbers, *seconds)):
        raise ValueError("a time that is none")
    return Figures._make((*numbers, seconds))
