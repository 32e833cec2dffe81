"""`overclock chat`, piped and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from overclock import LLM, Piece
from overclock.cli.chat import _Chat
from overclock.conversation import Conversation
from tests.checkpoints import FIXTURES
from tests.cli.commands import LLAMA, environment, run
from tests.cli.terminal import Terminal

ARGUMENTS = [*LLAMA, "-n", "6"]


def test_it_remembers_resets_and_leaves(tmp_path: Path) -> None:
    lines = ["hello", "again", f"/save {tmp_path}/one.json", "/reset", "new"]
    lines += [f"/save {tmp_path}/two.json", "/nope", "/save", "/exit", "never read"]
    code, out, err = run("chat", *ARGUMENTS, "--system", "sys", stdin="\n".join(lines).encode())
    assert code == 0
    one = json.loads((tmp_path / "one.json").read_text())["messages"]
    two = json.loads((tmp_path / "two.json").read_text())["messages"]
    assert [each["role"] for each in one] == ["system", "user", "assistant", "user", "assistant"]
    assert [each["content"] for each in two][:2] == ["sys", "new"]
    assert out == "".join(f"{each['content']}\n" for each in (*one[2::2], *two[2::2]))
    assert "there is no command /nope" in err
    assert "needs the name" in err
    assert "never read" not in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "two.json"]


def test_a_question_that_is_too_long_does_not_end_it() -> None:
    code, out, err = run("chat", *ARGUMENTS, stdin=("long " * 300 + "\nhello\n").encode())
    assert code == 0
    assert "error: the prompt has" in err
    assert out.strip()


def test_a_file_that_cannot_be_written_does_not_end_it() -> None:
    code, _, err = run("chat", *ARGUMENTS, stdin=b"hello\n/save /nowhere/at/all\n/exit\n")
    assert code == 0
    assert "error: /nowhere/at/all: No such file" in err


def test_old_turns_are_dropped_with_a_note() -> None:
    questions = "\n".join(f"question number {number}" for number in range(8))
    code, _, err = run("chat", *ARGUMENTS, stdin=questions.encode())
    assert code == 0
    assert "oldest turns were dropped" in err


def test_ctrl_c_stops_the_answer_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LLM(FIXTURES / "llama", machine="reference") as llm:
        conversation = Conversation(llm)
        listen = conversation._listen

        def interrupted(pieces: Iterator[Piece]) -> Iterator[Piece]:
            answer = listen(pieces)  # type: ignore[arg-type]
            yield next(answer)
            raise KeyboardInterrupt

        chat = _Chat(conversation, 20, {}, ())
        monkeypatch.setattr(conversation, "_listen", interrupted)
        chat._answer("hello")
        assert "stopped" in capsys.readouterr().err
        monkeypatch.setattr(conversation, "_listen", listen)
        chat._answer("again")
        assert "stopped" not in capsys.readouterr().err
        assert len(conversation.messages) == 4


def test_on_a_terminal_ctrl_c_drops_the_line() -> None:
    ours, theirs = pty.openpty()
    terminal = Terminal(ours)
    with subprocess.Popen(
        [sys.executable, "-m", "overclock", "chat", *ARGUMENTS],
        env=environment() | {"TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            terminal.wait_for(b"> ")
            terminal.type(b"half a line")
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            terminal.wait_for(b"Ctrl-D leaves")
            terminal.wait_for(b"> ")
            terminal.type(b"hello\n")
            terminal.wait_for(b"tokens/s")
            terminal.wait_for(b"> ")
            terminal.type(b"/exit\n")
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    os.close(ours)
