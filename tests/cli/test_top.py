"""`overclock top`, of engines that really run in other processes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from overclock.cli.top_view import View, bar, sparkline
from overclock.trace.board import Figures
from overclock.trace.rates import Look
from tests.checkpoints import FIXTURES
from tests.cli.commands import ENCODER, LLAMA, environment, run, start
from tests.cli.terminal import Terminal
from tests.trace.boards import engine

ENGINE = """
import sys, threading
from overclock import LLM

with LLM(sys.argv[1], threads=1, kv_memory=1 << 20) as llm:
    print("open", flush=True)
    threading.Thread(target=sys.stdin.read, daemon=True).start()
    while True:
        llm.generate([[number + 1, 2] for number in range(3)], 100, ignore_eos=True)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where boards go, for us and for all processes that we start."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OVERCLOCK_LIVE", raising=False)
    return tmp_path / "overclock"


@contextmanager
def running() -> Iterator[subprocess.Popen[bytes]]:
    """A process with an engine that generates all the time."""
    with subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(FIXTURES / "llama")],
        env=environment() | {"OVERCLOCK_LIVE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            time.sleep(0.5)
            yield process
        finally:
            process.kill()


def test_once_as_json() -> None:
    with running() as process:
        code, out, _ = run("top", "--once", "--json", "--interval", "0.3")
        again = run("top", "--json", "--interval", "0.3", "--pid", str(process.pid))
    assert code == again[0] == 0
    [found] = json.loads(out)["engines"]
    [later] = json.loads(again[1])["engines"]
    assert found["pid"] == process.pid
    assert (found["kind"], found["machine"], found["threads"]) == ("llm", "native", 1)
    assert found["figures"]["tokens"] < later["figures"]["tokens"]
    assert found["figures"]["memory"] > 1 << 20
    rates = found["rates"]
    assert rates["tokens_per_s"] > 0
    assert rates["ticks"] > 0
    assert sum(rates["stages"].values()) == pytest.approx(1)
    assert list(rates["stages"]) == ["fetch", "decode", "execute", "write back"]
    assert set(rates["opcodes"]) <= set(found["figures"]["opcode_seconds"])
    assert rates["limit"] is None, "nobody has measured this computer in that cache"


def test_once_as_a_table() -> None:
    with running() as process:
        code, out, _ = run("top", "--interval", "0.3")  # no terminal: once
    assert code == 0
    columns, row = (line.split("\t") for line in out.splitlines())
    cells = dict(zip(columns, row, strict=True))
    assert cells["pid"] == str(process.pid)
    assert cells["model"] == "llama"
    assert float(cells["tokens/s"].replace(",", "")) > 0
    assert "execute" in cells["stages"]


def test_a_process_that_is_killed_is_gone(place: Path) -> None:
    with running() as process:
        process.kill()
        process.wait()
        assert len(list(place.iterdir())) == 1
        code, out, err = run("top", "--once")
    assert (code, out) == (0, "")
    assert "no engine shows itself" in err
    assert list(place.iterdir()) == []


def test_nobody_runs() -> None:
    code, out, err = run("top", "--once")
    assert (code, out) == (0, "")
    assert "OVERCLOCK_LIVE=1" in err
    code, out, _ = run("top", "--json")
    assert (code, json.loads(out)) == (0, {"engines": []})


def test_a_process_without_an_engine_is_a_mistake() -> None:
    code, out, err = run("top", "--once", "--pid", str(os.getpid()))
    assert (code, out) == (2, "")
    assert f"process {os.getpid()} has no engine" in err
    with running() as process:
        code, _, err = run("top", "--pid", "1")
    assert code == 2
    assert f"those that do are {process.pid}" in err


def test_commands_show_themselves_unless_they_must_not(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, count in (("", 1), ("1", 1), ("0", 0)):
        monkeypatch.setenv("OVERCLOCK_LIVE", variable)
        with start("chat", *LLAMA, "-n", "3") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            process.stdout.readline()
            found = list(place.glob("*.board")) if place.exists() else []
            assert len(found) == count
            process.communicate(timeout=60)
        assert not list(place.glob("*.board"))


def test_a_command_runs_where_no_board_can_be(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_text("a file is in the way")
    code, out, _ = run("embed", "hello", *ENCODER)
    assert code == 0
    assert out
    monkeypatch.setenv("OVERCLOCK_LIVE", "1")
    code, out, err = run("embed", "hello", *ENCODER)
    assert (code, out) == (2, "")
    assert "cannot show itself" in err


def test_a_variable_that_is_no_answer_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERCLOCK_LIVE", "maybe")
    code, out, err = run("run", "hello", *LLAMA)
    assert (code, out) == (2, "")
    assert "OVERCLOCK_LIVE is 'maybe'; set it to 1 or 0" in err


# On a terminal


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Terminal, int]]:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "overclock", "top", "--interval", "0.2", *arguments],
        env=environment() | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        try:
            yield process, Terminal(ours), theirs
        finally:
            process.kill()
            os.close(theirs)
    os.close(ours)


def test_the_live_view_follows_an_engine_and_q_leaves() -> None:
    with running() as engine, on_a_terminal("--pid", str(engine.pid)) as (process, seen, theirs):
        before = termios.tcgetattr(theirs)
        seen.wait_for(f"process {engine.pid}".encode())
        for word in (b"tokens/s", b"tick", b"execute", b"requests", b"KV pages", b"opcodes"):
            seen.wait_for(word)
        seen.type(b"q")
        seen.wait_for(b"\x1b[?1049l")  # back from the alternate screen
        assert process.wait(timeout=60) == 0
        assert termios.tcgetattr(theirs) == before


def test_the_live_view_waits_for_an_engine_and_ctrl_c_leaves() -> None:
    with on_a_terminal() as (process, seen, _):
        seen.wait_for(b"no engine shows itself")
        with running() as first, running() as second:
            seen.wait_for(b"Tab shows the next engine")
            seen.wait_for(f"process {first.pid}".encode())
            seen.type(b"\t")
            seen.wait_for(f"process {second.pid}".encode())
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0


# What is drawn


def test_a_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([0.0, 1.0, 4.0, 8.0]) == "▁▂▅█"


def test_a_bar_is_as_wide_as_it_is_whatever_the_shares() -> None:
    assert bar([(0.5, "red"), (0.25, "blue")], 8).plain == "██████░░"
    for shares in ([2.0], [0.9, 0.9], [0.0], []):
        assert len(bar([(each, "red") for each in shares], 20).plain) == 20


def drawn(view: View) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(view.shown())
    return capture.get()


def test_the_view_of_figures_that_make_no_sense() -> None:
    view = View(1.0, None, "nobody")
    huge = (1 << 64) - 1
    odd = engine(model="[red]x", pages=1, opcodes=("[bold]", "b", "c"))
    for at in (1.0, 2.0):
        figures = Figures(
            ticks=int(at), used_pages=huge, cached_pages=huge, execute=at, at=at, running=huge
        )
        view.see([Look(odd, figures._replace(seconds=(at, 0.0, at)), at)])
    text = drawn(view)
    assert "[red]x " in text
    assert "[bold]" in text
    assert "execute 100.0%" in text
    view.see([])
    assert "nobody" in drawn(view)


def test_speeds_are_remembered_for_a_minute() -> None:
    view = View(2.0, None, "")
    for step in range(100):
        figures = Figures(ticks=step, tokens=step * 10, running=1, at=1.0 + step)
        view.see([Look(engine(), figures._replace(seconds=(0.0,) * 3), 1.0 + step)])
    assert view._speeds[engine()] == deque([10.0] * 30)
