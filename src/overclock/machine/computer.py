"""What this computer is: the cores and the memory a process may really use, the processor's name.

Inside a container the host's figures mislead: a process gets the cores of its affinity mask, of
which its control group may grant only a share of the time. Everything is read from `/proc` and
`/sys`, under a `root` that tests replace.

Sources: the kernel's documentation of cgroup v1 (`cpu.cfs_quota_us`, `memory.limit_in_bytes`) and
v2 (`cpu.max`, `memory.max`), and of `/sys/devices/system/cpu`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cache:
    """One processor cache: `kind` is data, instruction or unified; `size` in bytes."""

    level: int
    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory: what there is for this process in all, and what it could still take."""

    total: int
    available: int


def usable_cores(root: Path = ROOT) -> int:
    """How many threads can run at once: the affinity mask, cut to the control group's quota.

    A quota of 2.5 cores gives 2: a third spinning thread would only be throttled. At least 1.
    """
    allowed = _affinity()
    quota = cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cpu_quota(root: Path = ROOT) -> float | None:
    """The strictest quota of this process's control groups in cores, or None without one."""
    v2 = (_v2_quota(_text(group / "cpu.max")) for group in _groups(root, ""))
    v1 = (_v1_quota(group) for group in _groups(root, "cpu"))
    return min((quota for quota in (*v2, *v1) if quota is not None), default=None)


def memory(root: Path = ROOT) -> Memory:
    """The memory this process has: the system's, or its control group's if that is less."""
    fields = dict(_meminfo(root))
    total = fields.get("MemTotal", 0)
    available = fields.get("MemAvailable", total)
    for group in _groups(root, ""):
        total, available = _within(group, "memory.max", "memory.current", total, available)
    for group in _groups(root, "memory"):
        total, available = _within(
            group, "memory.limit_in_bytes", "memory.usage_in_bytes", total, available
        )
    return Memory(total, max(0, available))


def resident_bytes() -> int:
    """Bytes of this process that are in memory now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - asked for every tick
            return int(file.read().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def cpu_name(root: Path = ROOT) -> str:
    """The processor's name as it gives it, or its architecture."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.machine() or "unknown"


def caches(root: Path = ROOT) -> tuple[Cache, ...]:
    """The caches that the first core sees, from the nearest to the farthest."""
    found = []
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, size = _integer(_text(index / "level")), _size(_text(index / "size"))
        if level is not None and size is not None:
            found.append(Cache(level, _text(index / "type").lower(), size))
    return tuple(found)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of all groups around it.

    `controller` is "" for version 2. A container often shows its own group as the mount's root,
    and a path in `/proc/self/cgroup` that does not exist there: the root is always the last.
    """
    mount = root / "sys/fs/cgroup" / controller
    for path in _group_paths(root, controller):
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for length in range(len(parts), 0, -1):
            yield mount.joinpath(*parts[:length])
    yield mount


def _group_paths(root: Path, controller: str) -> Iterator[str]:
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            yield path


def _v2_quota(text: str) -> float | None:
    """Cores of a line "quota period"; "max" means no quota."""
    quota, _, period = text.partition(" ")
    return _share(_integer(quota), _integer(period))


def _v1_quota(group: Path) -> float | None:
    return _share(
        _integer(_text(group / "cpu.cfs_quota_us")), _integer(_text(group / "cpu.cfs_period_us"))
    )


def _share(quota: int | None, period: int | None) -> float | None:
    return quota / period if quota and period and quota > 0 and period > 0 else None


def _within(
    group: Path, limit_file: str, usage_file: str, total: int, available: int
) -> tuple[int, int]:
    """`total` and `available` cut to a group's limit; its page cache can be given back."""
    limit = _integer(_text(group / limit_file))
    if limit is None or limit >= total:
        return total, available
    usage = _integer(_text(group / usage_file)) or 0
    statistics = dict(_fields(_text(group / "memory.stat")))
    used = max(0, usage - statistics.get("inactive_file", 0))
    return limit, min(available, limit - used)


def _meminfo(root: Path) -> Iterator[tuple[str, int]]:
    for line in _text(root / "proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        kibibytes = _integer(value.removesuffix("kB"))
        if kibibytes is not None:
            yield key, kibibytes * 1024


def _fields(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        number = _integer(value)
        if number is not None:
            yield key, number


def _text(path: Path) -> str:
    """A small file's text, or nothing if it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _size(text: str) -> int | None:
    """Bytes of a size such as 32K or 16M."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    number = _integer(text.rstrip("KMG"))
    return None if number is None else number * factor
