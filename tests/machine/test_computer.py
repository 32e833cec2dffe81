"""Cores and memory, read from made-up `/proc` and `/sys` trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.machine import computer
from overclock.machine.computer import Cache


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups_every_core_of_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert computer.usable_cores(tmp_path) == 8
    assert computer.cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("line", "cores"),
    [
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("max 100000", 8),
        ("1600000 100000", 8),
        ("", 8),
        ("nonsense", 8),
        ("0 0", 8),
        ("-1 100000", 8),
    ],
)
def test_version_2_quota(tmp_path: Path, line: str, cores: int) -> None:
    tree(tmp_path, {"sys/fs/cgroup/cpu.max": line, "proc/self/cgroup": "0::/\n"})
    assert computer.usable_cores(tmp_path) == cores


def test_the_strictest_group_on_the_way_up_wins(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/cpu.max": "300000 100000",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
        },
    )
    assert computer.usable_cores(tmp_path) == 3


def test_a_group_path_of_the_host_that_is_not_mounted_here(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../../kubepods/box\n",
            "sys/fs/cgroup/cpu.max": "400000 100000",
        },
    )
    assert computer.usable_cores(tmp_path) == 4


@pytest.mark.parametrize(("quota", "cores"), [("150000", 1), ("-1", 8), ("500000", 5)])
def test_version_1_quota(tmp_path: Path, quota: str, cores: int) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/box\n3:memory:/box\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": quota,
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
        },
    )
    assert computer.usable_cores(tmp_path) == cores


@given(quota=st.integers(1, 10**9), period=st.integers(1, 10**7))
def test_a_quota_never_gives_more_cores_than_there_are(quota: int, period: int) -> None:
    share = computer._v2_quota(f"{quota} {period}")
    assert share is not None
    assert share == quota / period


MEMINFO = (
    "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:   12000000 kB\nHugePages_Total: 0\n"
)


def test_memory_of_a_computer_without_limits(tmp_path: Path) -> None:
    found = computer.memory(tree(tmp_path, {"proc/meminfo": MEMINFO}))
    assert found.total == 16_000_000 * 1024
    assert found.available == 12_000_000 * 1024


def test_memory_of_a_version_2_group_gives_page_cache_back(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000000000",
            "sys/fs/cgroup/memory.current": "700000000",
            "sys/fs/cgroup/memory.stat": "anon 300000000\ninactive_file 400000000\n",
        },
    )
    found = computer.memory(tmp_path)
    assert (found.total, found.available) == (1_000_000_000, 700_000_000)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_memory_of_a_group_without_a_real_limit(tmp_path: Path, limit: str) -> None:
    tree(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/\n3:memory:/\n",
            "sys/fs/cgroup/memory.max": limit,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": limit,
        },
    )
    assert computer.memory(tmp_path).total == 16_000_000 * 1024


def test_memory_of_a_version_1_group(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "3:memory:/box\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "2000000000",
            "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "2500000000",
        },
    )
    assert computer.memory(tmp_path) == computer.Memory(2_000_000_000, 0)


def test_processor_name_and_caches(tmp_path: Path) -> None:
    cache = "sys/devices/system/cpu/cpu0/cache"
    tree(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Tested CPU @ 3 GHz\n",
            f"{cache}/index0/level": "1\n",
            f"{cache}/index0/type": "Data\n",
            f"{cache}/index0/size": "32K\n",
            f"{cache}/index1/level": "3\n",
            f"{cache}/index1/type": "Unified\n",
            f"{cache}/index1/size": "16M\n",
            f"{cache}/index2/level": "nonsense\n",
        },
    )
    assert computer.cpu_name(tmp_path) == "Tested CPU @ 3 GHz"
    assert computer.caches(tmp_path) == (Cache(1, "data", 32 << 10), Cache(3, "unified", 16 << 20))


def test_an_empty_tree_is_no_error(tmp_path: Path) -> None:
    assert computer.cpu_name(tmp_path)
    assert computer.caches(tmp_path) == ()
    assert computer.memory(tmp_path) == computer.Memory(0, 0)


def test_this_computer_agrees_with_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= computer.usable_cores() <= (os.cpu_count() or 1)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < computer.memory().total <= pages
