"""What opening a model took: its parts, and what had to come from the disk."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter


class Loading:
    """Stop-watches for the parts of a start, in their order.

    parts: name → seconds; major_faults: pages of files that were not in memory when they were
    touched; read_bytes: what came from storage, None where the system does not say
    """

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.major_faults = 0
        self.read_bytes: int | None = None
        self._began = perf_counter()
        self._faults, self._read = _faults(), _read_bytes()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside as a part of the start."""
        began = perf_counter()
        yield
        self.parts[name] = self.parts.get(name, 0.0) + perf_counter() - began

    def done(self) -> float:
        """The start is over; how many seconds it took."""
        self.major_faults = _faults() - self._faults
        now = _read_bytes()
        if now is not None and self._read is not None:
            self.read_bytes = now - self._read
        return perf_counter() - self._began


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


def _read_bytes() -> int | None:
    """Bytes that this process has had from storage. Source: proc(5), `/proc/[pid]/io`."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
