"""Models in wheels, from an index on a real socket, by the real pip."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from overclock.errors import SourceError
from overclock.model import cache, download, pip_client, wheel
from overclock.model.origin import Wheel
from overclock.model.source import parse, pull, resolve
from tests.model.gguf_writer import tiny_llama
from tests.model.servers import Reply, Site, add_wheel, serving

PADDING = os.urandom(300_000)
MODEL = tiny_llama().bytes() + PADDING
METADATA = b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"


def make_wheel(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        info = "tiny_model-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", METADATA)
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


WHEEL = make_wheel({"tiny_model/__init__.py": b"raise SystemExit", "tiny_model/m.gguf": MODEL})
DIGEST = hashlib.sha256(WHEEL).hexdigest()
NAME = f"pypi:tiny-model==1.0#sha256={DIGEST}"
FILE = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """An index that pip is configured for, and an empty cache."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    with serving(Site()) as here:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{here.url}/simple")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "cache"))
        yield here


@pytest.fixture
def known(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The same index, where pip has answered already: saves the seconds that it takes."""
    monkeypatch.setattr(pip_client, "address", lambda _: f"{site.url}/files/{FILE}")
    monkeypatch.setattr(pip_client, "http_client", download.Client)
    return site


def left_over() -> list[str]:
    """What is in the cache but for locks and finished entries."""
    root = cache.root()
    found = [path for path in root.rglob("*") if path.is_file()]
    kept = ("locks", "entries")
    return [
        str(path.relative_to(root)) for path in found if path.relative_to(root).parts[0] not in kept
    ]


def test_a_pinned_wheel_is_fetched_once_and_unpacked_without_code(site: Site) -> None:
    add_wheel(site, "tiny-model", "1.0", WHEEL)
    told: list[tuple[str, int, int | None]] = []
    record = pull(NAME, progress=lambda *news: told.append(news))
    path = Path(record.path)
    assert path.read_bytes() == MODEL
    assert path.is_relative_to(cache.root() / "entries")
    assert (record.sha256, record.source) == (DIGEST, NAME)
    assert record.bytes == sum(f.stat().st_size for f in path.parents[1].rglob("*")
                               if f.is_file() and f.name != cache.RECORD)  # fmt: skip
    assert not list(path.parents[1].rglob("*.py"))
    assert ("tiny-model==1.0", len(WHEEL), len(WHEEL)) in told
    assert site.asked("GET", FILE) == [""]
    assert resolve(NAME) == path
    assert pull(NAME) == record
    assert len(site.asked("GET", FILE)) == 1
    assert cache.records() == [record]
    assert left_over() == []


@pytest.mark.parametrize("announced", ["", None])
def test_a_wheel_that_is_not_pinned_is_fetched_by_pip(site: Site, announced: str | None) -> None:
    add_wheel(site, "tiny-model", "1.0", WHEEL, metadata=METADATA, announced=announced)
    record = pull("pypi:tiny-model==1.0")
    assert record.sha256 == DIGEST
    assert Path(record.path).read_bytes() == MODEL
    assert left_over() == []


def test_a_broken_transfer_goes_on_where_it_stopped(known: Site) -> None:
    add_wheel(known, "tiny-model", "1.0", WHEEL)
    known.cut_after = [100_000, 50_000]
    pull(NAME)
    assert known.asked("GET", FILE) == ["", "bytes=100000-", "bytes=150000-"]
    assert known.sent == len(WHEEL)


def test_an_interrupted_pull_leaves_no_model_and_goes_on_later(
    known: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_wheel(known, "tiny-model", "1.0", WHEEL)
    monkeypatch.setattr(download, "CHUNK", 4096)

    def interrupt(what: str, done: int, total: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(NAME, progress=interrupt)
    assert cache.records() == []
    [part] = left_over()
    assert part == f"partial/{DIGEST}.part"
    size = (cache.root() / part).stat().st_size
    assert 100_000 < size < len(WHEEL)
    pull(NAME)
    assert known.asked("GET", FILE)[1] == f"bytes={size}-"
    assert left_over() == []


def test_a_server_without_ranges_starts_again(known: Site) -> None:
    add_wheel(known, "tiny-model", "1.0", WHEEL)
    known.pages[f"/files/{FILE}"] = Reply(WHEEL, ranges=False)
    known.cut_after = [100_000]
    assert Path(pull(NAME).path).read_bytes() == MODEL


def test_a_part_that_is_too_long_is_thrown_away(known: Site) -> None:
    add_wheel(known, "tiny-model", "1.0", WHEEL)
    cache.partial(f"{DIGEST}.part").write_bytes(bytes(len(WHEEL) + 5))
    assert Path(pull(NAME).path).read_bytes() == MODEL


def test_a_server_that_serves_only_pip_is_left_to_pip(site: Site) -> None:
    add_wheel(site, "tiny-model", "1.0", WHEEL)
    site.refused_agents = "urllib"
    assert Path(pull(NAME).path).read_bytes() == MODEL
    assert left_over() == []


def test_a_wrong_hash_is_refused_and_nothing_kept(known: Site) -> None:
    add_wheel(known, "tiny-model", "1.0", WHEEL)
    with pytest.raises(SourceError, match=f"SHA-256 {DIGEST}, but {'0' * 64} was expected"):
        pull(f"pypi:tiny-model==1.0#sha256={'0' * 64}")
    assert (cache.records(), left_over()) == ([], [])


def test_a_part_of_another_file_does_no_harm(known: Site) -> None:
    add_wheel(known, "tiny-model", "1.0", WHEEL)
    cache.partial(f"{DIGEST}.part").write_bytes(bytes(1000))
    with pytest.raises(SourceError, match="it was deleted"):
        pull(NAME)
    assert Path(pull(NAME).path).read_bytes() == MODEL


def test_a_hash_that_the_index_denies_is_refused_by_pip(site: Site) -> None:
    add_wheel(site, "tiny-model", "1.0", WHEEL, announced="0" * 64)
    with pytest.raises(SourceError, match="pip cannot fetch tiny-model"):
        pull("pypi:tiny-model==1.0")
    assert (cache.records(), left_over()) == ([], [])


def test_unknown_packages_and_versions_are_refused(site: Site) -> None:
    with pytest.raises(SourceError, match="No matching distribution found for tiny-model"):
        pull(NAME)
    add_wheel(site, "tiny-model", "1.0", WHEEL)
    with pytest.raises(SourceError, match=r"found for tiny-model==2\.0"):
        pull("pypi:tiny-model==2.0")


def test_without_pip_there_is_a_sentence(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SourceError, match="ensurepip"):
        pull(NAME)


TWO = {"a/m.gguf": MODEL, "b/n.gguf": MODEL[:-1]}


def pinned(data: bytes, file: str = "") -> str:
    return f"pypi:tiny-model==1.0{file}#sha256={hashlib.sha256(data).hexdigest()}"


def test_one_of_several_models_is_chosen_by_its_path(known: Site) -> None:
    data = make_wheel(TWO)
    add_wheel(known, "tiny-model", "1.0", data)
    with pytest.raises(SourceError, match=r"several models; add a colon and one of a/m.gguf, b/n"):
        pull(pinned(data))
    assert Path(pull(pinned(data, ":b/n.gguf")).path).read_bytes() == MODEL[:-1]
    for wrong in ("c.gguf", "../../x", "/etc/passwd"):
        with pytest.raises(SourceError, match="holds no"):
            pull(pinned(data, f":{wrong}"))


def test_a_wheel_without_a_model_is_refused(known: Site) -> None:
    data = make_wheel({"a/config.json": b"{}"})
    add_wheel(known, "tiny-model", "1.0", data)
    with pytest.raises(SourceError, match="it is not a model that can be run"):
        pull(pinned(data))
    assert (cache.records(), left_over()) == ([], [])


SCRIPT = textwrap.dedent("""
    import resource, sys
    from overclock.cli.main import main
    if sys.argv[1] != "0":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
    main(["pull", sys.argv[2], "--json"])
""")


def start(name: str, limit: int = 0) -> subprocess.Popen[str]:
    """`overclock pull NAME` as a process of its own, which may write files up to `limit` bytes."""
    command = [sys.executable, "-c", SCRIPT, str(limit), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_pull_at_once_do_the_work_once(site: Site) -> None:
    add_wheel(site, "tiny-model", "1.0", WHEEL)
    processes = [start(NAME) for _ in range(2)]
    results = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert [code for _, _, code in results] == [0, 0], results
    records = [json.loads(out) for out, _, _ in results]
    assert records[0] == records[1]
    assert len(site.asked("GET", FILE)) == 1
    assert left_over() == []


@pytest.mark.parametrize("name", [NAME, "pypi:tiny-model==1.0"])
def test_a_full_disk_is_told_in_one_line(site: Site, name: str) -> None:
    add_wheel(site, "tiny-model", "1.0", WHEEL)
    process = start(name, 100_000)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: ")
    assert "the disk is full" in err
    assert "OVERCLOCK_CACHE" in err
    assert (cache.records(), left_over()) == ([], [])


def test_a_cache_that_cannot_be_written_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match="set OVERCLOCK_CACHE to a folder you may write to"):
        pull(NAME)


# unpacking


def pack(folder: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    path = folder / "bad.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def link(name: str, kind: int = stat.S_IFLNK) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("../evil", b"x")], "leads out of the folder"),
        ([("a/../../evil", b"x")], "leads out of the folder"),
        ([("/evil", b"x")], "leads out of the folder"),
        ([("a\\..\\evil", b"x")], "leads out of the folder"),
        ([("c:evil", b"x")], "leads out of the folder"),
        ([(link("a"), b"/etc/passwd")], "is a link"),
        ([(link("a", stat.S_IFIFO), b"")], "is a link"),
        ([("a", b"x"), ("A", b"y")], "the same file twice"),
        ([("a", b"x"), ("a/b", b"y")], "cannot be"),
        ([("a", bytes(200_000_000))], "would grow beyond"),
    ],
)
def test_hostile_wheels_are_not_unpacked(
    tmp_path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]], words: str
) -> None:
    with pytest.raises(SourceError, match=words), cache.disk_errors("it"):
        wheel.unpack(pack(tmp_path, members), tmp_path / "inner" / "files", "it")
    assert not list(tmp_path.glob("**/evil"))


def test_a_wheel_that_lies_about_sizes_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path, [("a", bytes(100_000))])
    monkeypatch.setattr(wheel, "SPARE", 0)
    monkeypatch.setattr(wheel, "_check_members", lambda *_: None)
    with pytest.raises(SourceError, match="grows beyond all measure"):
        wheel.unpack(path, tmp_path / "files", "it")


def test_damaged_wheels_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bad.whl"
    for place in range(0, len(WHEEL), len(WHEEL) // 40):
        data = bytearray(WHEEL)
        data[place] ^= 0xFF
        path.write_bytes(data)
        target = tmp_path / str(place)
        try:
            wheel.unpack(path, target, "it")
        except SourceError:
            continue
        assert (target / "tiny_model" / "m.gguf").read_bytes() == MODEL
    path.write_bytes(WHEEL[: len(WHEEL) // 2])
    with pytest.raises(SourceError, match="no wheel"):
        wheel.unpack(path, tmp_path / "half", "it")


def test_addresses_that_are_not_of_the_web_are_refused(tmp_path: Path) -> None:
    with pytest.raises(download.TransferError):
        download.fetch(download.Client(), "ftp://x/y", tmp_path / "part", "it", print)
    (tmp_path / "there").write_bytes(b"data")
    url = (tmp_path / "there").as_uri()
    download.fetch(download.Client(), url, tmp_path / "part", "it", print)
    assert (tmp_path / "part").read_bytes() == b"data"


def test_a_wheel_is_written_as_it_is_read() -> None:
    for text in ("pypi:a==1", NAME, f"pypi:a==1:b/c.gguf#sha256={'a' * 64}"):
        found = parse(text)
        assert isinstance(found, Wheel)
        assert str(found) == text
