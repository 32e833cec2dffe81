"""Exit codes, one line for a mistake, and never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from overclock.cli.group import COMMANDS
from overclock.cli.main import main
from tests.checkpoints import FIXTURES
from tests.cli.commands import ENCODER, LLAMA, environment, run, start

HERE = str(Path(__file__))


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command run in this process."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: overclock {name}")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys)
    assert (code, out) == (2, "")
    assert all(name in err for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--version")
    assert code == 0
    assert out.startswith("overclock ")


BAD = [
    ["nothing"],
    ["run"],
    ["run", "hi", "--nothing"],
    ["run", "", *LLAMA],
    ["run", "  \n", *LLAMA],
    ["run", "hi", "-m", "nowhere"],
    ["run", "hi", "-m", ""],
    ["run", "hi", "-m", "/dev/null"],
    ["run", "hi", "-m", HERE],
    ["run", "hi", "-m", str(FIXTURES)],
    ["run", "hi", "-m", "pypi:no version"],
    ["run", "hi", "-m", "hf:"],
    ["run", "hi", "-m", "a\0b"],
    ["run", "x" * 2000, *LLAMA],
    ["run", "hi", *LLAMA, "-n", "0"],
    ["run", "hi", *LLAMA, "-n", "-1"],
    ["run", "hi", *LLAMA, "-n", "many"],
    ["run", "hi", *LLAMA, "--temperature", "nan"],
    ["run", "hi", *LLAMA, "--temperature", "-1"],
    ["run", "hi", *LLAMA, "--temperature", "warm"],
    ["run", "hi", *LLAMA, "--top-k", "0"],
    ["run", "hi", *LLAMA, "--top-p", "0"],
    ["run", "hi", *LLAMA, "--top-p", "1.5"],
    ["run", "hi", *LLAMA, "--min-p", "-0.5"],
    ["run", "hi", *LLAMA, "--repetition-penalty", "0"],
    ["run", "hi", *LLAMA, "--seed", "-3"],
    ["run", "hi", *LLAMA, "--stop", ""],
    ["run", "hi", *LLAMA, "--threads", "0"],
    ["run", "hi", *LLAMA, "--threads", "99999"],
    ["run", "hi", *LLAMA, "--kv", "f8"],
    ["run", "hi", *LLAMA, "--context", "0"],
    ["run", "hi", *LLAMA, "--context", "100000"],
    ["run", "hi", *LLAMA, "--context", "4"],
    ["run", "hi", *LLAMA, "--raw", "--system", "be kind"],
    ["run", "hi", *ENCODER],
    ["run", "hi", "-m", str(FIXTURES / "gemma3"), "--machine", "reference", "--system", "x"],
    ["chat", *ENCODER],
    ["chat", *LLAMA, "--top-p", "7"],
    ["chat", "-m", str(FIXTURES / "gemma3"), "--machine", "reference"],
    ["embed", *ENCODER],
    ["embed", "hi", *LLAMA],
    ["embed", "hi", *ENCODER, "--json", "-o", "x.npy"],
    ["embed", "hi", *ENCODER, "-o", "/nowhere/at/all.npy"],
    ["embed", "hi", *ENCODER, "-o", "/"],
    ["evaluate", "nothing"],
    ["evaluate", "perplexity", *LLAMA],
    ["evaluate", "perplexity", "/nowhere", *LLAMA],
    ["evaluate", "perplexity", "/", *LLAMA],
    ["evaluate", "perplexity", os.devnull, *LLAMA],
    ["evaluate", "perplexity", HERE, *LLAMA],  # 512 tokens do not fit
    ["evaluate", "perplexity", HERE, *LLAMA, "--window", "1"],
    ["evaluate", "perplexity", HERE, *LLAMA, "--window", "16", "--windows", "0"],
    ["evaluate", "perplexity", HERE, *ENCODER],
    ["bench", "-m", "nowhere"],
    ["bench", *LLAMA, "--repetitions", "0"],
    ["inspect", "nowhere"],
    ["pull", "nowhere"],
]


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert len(err) > 20
    assert len(err.splitlines()) == 1


def test_a_mistake_in_a_process_of_its_own() -> None:
    code, out, err = run("run", "hi", "-m", "nowhere")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_ctrl_c_while_stdin_is_awaited() -> None:
    for arguments in (["run", "-", *LLAMA], ["chat", *LLAMA]):
        with start(*arguments) as process:
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert b"Traceback" not in err + out


def test_ctrl_c_in_the_middle_of_work(tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 10_000)
    with start("evaluate", "perplexity", str(text), *LLAMA, "--window", "64") as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err + out


def test_ctrl_c_at_any_moment_of_the_start() -> None:
    for delay in (0.1, 0.2, 0.3):
        with start("chat", *LLAMA) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        # Before our first line runs, the signal is Python's own business.
        if b"overclock/cli/main.py" in err or not err:
            assert process.returncode in (130, -signal.SIGINT)


def test_a_reader_that_has_gone_is_no_mistake() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code, _, err = run("run", "hi", *LLAMA, "-n", "50", "--ignore-eos", stdout=writing)
    finally:
        os.close(writing)
    assert code == 141
    assert err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, err = run("run", "hi", *LLAMA, "-n", "5", stdout=full)
    assert code == 2
    assert err.startswith("error: No space left")
    assert "Traceback" not in err


def test_closed_streams_do_no_harm() -> None:
    command = 'exec "$0" -m overclock run - "$@" <&- >&-'
    found = subprocess.run(
        ["sh", "-c", command, sys.executable, *LLAMA],
        env=environment(),
        stderr=subprocess.PIPE,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.startswith(b"error: the prompt is empty")
