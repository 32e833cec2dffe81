"""The board: read whole or not at all, whatever its writer does, and whoever wrote the file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from math import isfinite
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.trace import board
from overclock.trace.board import Board, find, process_start, read
from tests.cli.commands import environment
from tests.trace.boards import engine, figures


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where boards go."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "overclock"


def script(text: str) -> subprocess.Popen[bytes]:
    """A process that runs `text` beside this one."""
    return subprocess.Popen(
        [sys.executable, "-c", text],
        env=environment() | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path.cwd())])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_what_is_written_is_read(place: Path) -> None:
    shown = Board(engine())
    assert shown.path.parent == place
    first = read(shown.path)
    assert first is not None
    assert first.engine == engine()
    assert first.figures == board.NOTHING._replace(seconds=(0.0,) * 3)
    for number in (1, 2, 1 << 40):
        shown.write(figures(number))
        found = read(shown.path)
        assert found is not None
        assert found.figures == figures(number)
    assert [each.path for each in find()] == [shown.path]
    shown.close()
    assert find() == []
    shown.write(figures(3))  # an engine that is closed may still end what it does
    shown.close()


def test_only_its_user_can_read_it(place: Path) -> None:
    shown = Board(engine())
    assert stat.S_IMODE(shown.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_two_engines_of_a_process_have_two_boards() -> None:
    boards = [Board(engine(opened=10.0 - number, model=str(number))) for number in range(2)]
    assert [each.engine.model for each in find()] == ["1", "0"], "the oldest first"
    boards[1].close()
    assert [each.engine.model for each in find()] == ["0"]


def test_the_cache_is_the_place_if_there_is_no_runtime_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for runtime in ("", "relative", str(tmp_path / "nowhere")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        shown = Board(engine())
        assert shown.path.parent == tmp_path / "cache" / "live"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert len(find()) == 3, "a reader looks in both places"


def test_a_place_that_cannot_be_used_is_told(place: Path, tmp_path: Path) -> None:
    place.write_text("a file")
    with pytest.raises(InputError, match="set XDG_RUNTIME_DIR or OVERCLOCK_CACHE"):
        Board(engine())
    place.unlink()
    place.symlink_to(tmp_path)
    with pytest.raises(InputError, match="not a folder of yours"):
        Board(engine())


def test_long_and_strange_names_are_cut_and_harmless() -> None:
    name = "x" * 200 + "/ü\x1b[2J\u202e" + "é" * 40 + "end"
    shown = Board(engine(model=name, tier="t" * 50, opcodes=("a" * 30, "\x07")))
    found = read(shown.path)
    assert found is not None
    assert found.engine.model.endswith("é" * 40 + "end")
    assert found.engine.short == found.engine.model.rpartition("/")[2]
    assert found.engine.tier == "t" * 16
    assert found.engine.opcodes == ("a" * 16, "\N{REPLACEMENT CHARACTER}")
    assert found.engine.model.isprintable()


WRITER = """
import sys
from overclock.trace.board import Board
from tests.trace.boards import engine, figures
shown = Board(engine())
print(shown.path, flush=True)
number = 0
every = [figures(each) for each in range(1, 500)]
while not number or number < 400_000:
    shown.write(every[number % len(every)])
    number += 1
    if number == 1:
        print("written", flush=True)
"""


def test_nobody_reads_half_of_what_another_process_writes() -> None:
    with script(WRITER) as writer:
        assert writer.stdout is not None
        path = Path(writer.stdout.readline().decode().strip())
        writer.stdout.readline()
        seen: set[int] = set()
        reads = 0
        while reads < 4000 or len(seen) <= 50:
            # A busy computer may let only one of both processes run for long.
            assert reads < 4000 or writer.poll() is None, "it did not write while we read"
            reads += 1
            found = read(path)
            if found is not None:
                assert found.figures == figures(found.figures.ticks)
                seen.add(found.figures.ticks)
        writer.kill()


def test_a_torn_reading_is_none() -> None:
    """A writer that died in the middle, and a processor that let a store overtake another."""
    shown = Board(engine())
    shown.write(figures(7))
    data = bytearray(shown.path.read_bytes())
    data[board._BODY_AT + 3] ^= 1
    shown.path.write_bytes(data)
    assert read(shown.path) is None
    shown.write(figures(8))
    data = bytearray(shown.path.read_bytes())
    data[board.FIGURES_AT] |= 1
    shown.path.write_bytes(data)
    assert read(shown.path) is None


def test_a_reading_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Board(engine())
    shown.write(figures(8))
    good = shown.path.read_bytes()
    torn = bytearray(good)
    torn[board.FIGURES_AT] |= 1
    shown.path.write_bytes(torn)
    monkeypatch.setattr(board, "sleep", lambda _: shown.path.write_bytes(good))
    found = read(shown.path)
    assert found is not None
    assert found.figures == figures(8)


def good_bytes(folder: Path) -> bytes:
    shown = Board(engine())
    shown.write(figures(5))
    data = shown.path.read_bytes()
    shown.close()
    return data


@given(st.data())
def test_whatever_is_in_a_file_it_is_read_harmlessly(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.board"
    content = bytearray(good_bytes(path.parent))
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.integers(0, 800) | st.integers(0, len(content) - 1))
        word = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(word)] = word
    is_signed_again = data.draw(st.booleans())
    content = content[: board.SIZE]
    if is_signed_again:
        body = bytes(content[board._BODY_AT : board._BODY_END])
        board._LOCK.pack_into(content, board.FIGURES_AT, 2, crc32(body))
    path.write_bytes(content)
    found = read(path)
    if found is not None:
        words = [*found.engine.opcodes, found.engine.model, found.engine.tier, found.engine.kv]
        assert all(word.isprintable() and len(word) < 201 for word in words)
        assert len(found.figures.seconds) == len(found.engine.opcodes) <= board.MOST_OPCODES
        assert all(isfinite(each) and each >= 0 for each in found.figures.seconds)
        assert all(isfinite(each) and each >= 0 for each in found.figures[:-1])


def test_times_that_are_none_are_refused(tmp_path: Path) -> None:
    shown = Board(engine())
    for bad in (float("nan"), float("inf"), -1.0):
        shown.write(figures(1)._replace(fetch=bad))
        assert read(shown.path) is None
        shown.write(figures(1)._replace(seconds=(0.0, bad, 0.0)))
        assert read(shown.path) is None
    shown.write(figures(1))
    assert read(shown.path) is not None


def test_files_that_are_no_boards(place: Path, tmp_path: Path) -> None:
    good = good_bytes(tmp_path)
    other_version = bytearray(good)
    other_version[8] += 1
    contents = [b"", b"x", good[:-1], good + b"\0", b"\0" * board.SIZE, bytes(other_version)]
    for number, content in enumerate(contents):
        (place / f"{number}.board").write_bytes(content)
    (place / "folder.board").mkdir()
    os.mkfifo(place / "fifo.board")
    (tmp_path / "elsewhere").write_bytes(good)
    (place / "link.board").symlink_to(tmp_path / "elsewhere")
    assert find() == []
    assert len(list(place.iterdir())) == len(contents) + 3, "what we do not know stays"
    (place / "good.board").write_bytes(good)
    assert len(find()) == 1


# Whose process


def test_a_process_that_died_is_cleared_away() -> None:
    text = """
import os
from overclock.trace.board import Board
from tests.trace.boards import engine
print(Board(engine()).path, flush=True)
os.read(0, 1)
os._exit(0)
"""
    with script(text) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        path = Path(process.stdout.readline().decode().strip())
        assert [each.engine.pid for each in find()] == [process.pid]
        process.stdin.write(b"x")
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_start(process.pid) is None, "it is dead, though nobody has buried it"
        assert find() == []
        assert not path.exists()


def test_another_process_with_the_same_number_is_not_taken_for_it() -> None:
    shown = Board(engine(born=engine().born - 1))
    assert find() == []
    assert not shown.path.exists()


def test_a_process_of_another_container_is_left_alone() -> None:
    shown = Board(engine(namespace=1, pid=1 << 22))
    assert find() == []
    assert shown.path.exists()


def test_when_a_process_began() -> None:
    assert process_start("self") == process_start(os.getpid())
    assert process_start(1 << 30) is None
    with subprocess.Popen(["sleep", "60"]) as later:
        try:
            began, ours = process_start(later.pid), process_start("self")
            assert began is not None
            assert ours is not None
            assert began >= ours
        finally:
            later.kill()


def test_a_fork_does_not_take_it_down(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Board(engine())
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    shown.close()
    assert shown.path.exists()
    monkeypatch.undo()
    shown.close()
    assert not shown.path.exists()
