"""`overclock batch`: survives kill -9, tells what failed, and leaves no line out."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from time import sleep

import pytest

from overclock import LLM
from tests.batch.files import CHAT, EMBED, TEXT, ids, line, read, write
from tests.checkpoints import FIXTURES
from tests.cli.commands import run, start

MODELS = ("-m", str(FIXTURES / "llama"), "--encoder", str(FIXTURES / "bert-mean"))
OPTIONS = (*MODELS, "--machine", "reference", "--streams", "2")


@pytest.fixture
def input(tmp_path: Path) -> Path:
    return write(
        tmp_path / "in.jsonl",
        [line("a", CHAT), line("b", TEXT), "nonsense", line("c", EMBED), line("a", TEXT)],
    )


def test_answers_errors_and_what_is_told(tmp_path: Path, input: Path) -> None:
    out = tmp_path / "out.jsonl"
    code, stdout, stderr = run("batch", str(input), str(out), *OPTIONS)
    assert (code, stdout) == (1, "")
    assert "5 of 5 lines · 2 failed" in stderr
    errors = tmp_path / "out.jsonl.errors.jsonl"
    assert str(errors) in stderr
    assert sorted(ids(out)) == ["a", "b", "c"]
    assert [each["line"] for each in read(errors)] == [3, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.jsonl",
        "out.jsonl",
        "out.jsonl.errors.jsonl",
    ]


def test_json(tmp_path: Path, input: Path) -> None:
    out, errors = tmp_path / "out.jsonl", tmp_path / "bad.jsonl"
    code, stdout, _ = run(
        "batch", str(input), str(out), *OPTIONS, "--errors", str(errors), "--json"
    )
    assert code == 1
    told = json.loads(stdout)
    assert (told["lines"], told["answered"], told["failed"], told["resumed"]) == (5, 3, 2, 0)
    assert (told["output"], told["errors"]) == (str(out), str(errors))
    used = [each["response"]["body"]["usage"] for each in read(out)]
    assert told["prompt_tokens"] == sum(each["prompt_tokens"] for each in used)
    assert told["completion_tokens"] == sum(each.get("completion_tokens", 0) for each in used) == 8
    assert told["completion_tokens_per_s"] > 0
    write(input, [line("a")])
    code, stdout, _ = run("batch", str(input), str(tmp_path / "two.jsonl"), *OPTIONS, "--json")
    assert (code, json.loads(stdout)["errors"]) == (0, None)


def test_what_cannot_be_done(tmp_path: Path, input: Path) -> None:
    out = tmp_path / "out.jsonl"
    for arguments, words in (
        ((tmp_path / "missing", out), "No such file"),
        ((tmp_path, out), "directory"),
        ((input, input), "three different files"),
        ((input, tmp_path / "missing" / "out"), "No such file"),
        ((input, out, "--errors", out), "three different files"),
    ):
        code, _, stderr = run("batch", *map(str, arguments), *OPTIONS)
        assert (code, stderr.count("\n")) == (2, 1)
        assert words in stderr
    out.write_text("precious")
    code, _, stderr = run("batch", str(input), str(out), *OPTIONS)
    assert code == 2
    assert "--restart" in stderr
    assert out.read_text() == "precious"
    assert run("batch", str(input), str(out), *OPTIONS, "--restart")[0] == 1
    assert sorted(ids(out)) == ["a", "b", "c"]


def test_max_tokens_of_chats_that_do_not_say(tmp_path: Path) -> None:
    silent = line("a", CHAT, ignore_eos=True)
    del silent["body"]["max_tokens"]  # type: ignore[attr-defined]
    input, out = write(tmp_path / "in", [silent, line("b", CHAT)]), tmp_path / "out"
    assert run("batch", str(input), str(out), *OPTIONS, "-n", "7")[0] == 0
    used = {each["custom_id"]: each["response"]["body"]["usage"] for each in read(out)}
    assert used["a"]["completion_tokens"] == 7
    assert used["b"]["completion_tokens"] == 4


# processes that die


def wait_for_lines(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until a file has so many lines, or the process has ended."""
    while process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        sleep(0.005)


def test_killed_again_and_again_it_answers_every_line_once(tmp_path: Path) -> None:
    count = 200
    lines: list[object] = [
        line(f"{n}", (CHAT, TEXT, EMBED)[n % 3], **({"max_tokens": 24} if n % 3 < 2 else {}))
        for n in range(count)
    ]
    lines[7:7] = ["nonsense", line("3", TEXT)]
    input, out = write(tmp_path / "in", lines), tmp_path / "out"
    partial = tmp_path / "out.partial"
    for wanted in (1, 30, 60, 90):
        with start("batch", str(input), str(out), *OPTIONS) as process:
            wait_for_lines(partial, wanted, process)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
        assert not out.exists()
        if wanted == 30:  # what a kill in the middle of a write leaves
            with partial.open("ab") as file:
                file.write(b'{"id": "batch_req_torn", "custom_id": "119", "resp')
    before = partial.read_bytes().count(b"\n")
    code, stdout, _ = run("batch", str(input), str(out), *OPTIONS, "--json")
    assert code == 1
    told = json.loads(stdout)
    assert (told["answered"], told["failed"]) == (count, 2)
    assert told["resumed"] >= before >= 90
    assert sorted(ids(out), key=int) == [f"{n}" for n in range(count)]
    assert [each["line"] for each in read(tmp_path / "out.errors.jsonl")] == [8, 9]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "out.errors.jsonl"}
    with LLM(FIXTURES / "llama", machine="reference") as llm:
        text = llm.generate("hello", 24).text
    told_texts = {
        each["response"]["body"]["choices"][0]["text"]
        for each in read(out)
        if each["response"]["body"]["object"] == "text_completion"
    }
    assert told_texts == {text}


def test_interrupted_it_says_how_to_go_on(tmp_path: Path) -> None:
    input = write(tmp_path / "in", [line(f"{n}", TEXT, max_tokens=90) for n in range(500)])
    out = tmp_path / "out"
    with start("batch", str(input), str(out), *OPTIONS) as process:
        wait_for_lines(tmp_path / "out.partial", 1, process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in stderr.decode()
    assert len(ids(tmp_path / "out.partial")) >= 1


def test_two_processes_on_one_output(tmp_path: Path) -> None:
    """The second is refused at once, and does no harm to the first."""
    many = write(tmp_path / "many", [line(f"{n}", TEXT, max_tokens=90) for n in range(500)])
    out = tmp_path / "out"
    with start("batch", str(many), str(out), *OPTIONS) as first:
        wait_for_lines(tmp_path / "out.partial", 1, first)
        code, _, stderr = run("batch", str(many), str(out), *OPTIONS)
        assert code == 2
        assert "another process is working on" in stderr
        code, _, stderr = run("batch", str(many), str(out), *OPTIONS, "--restart")
        assert code == 2
        assert first.poll() is None
        first.kill()
        first.communicate()
    write(many, [line("0", TEXT)])
    code, _, stderr = run("batch", str(many), str(out), *OPTIONS)
    assert code == 2
    assert "has changed since" in stderr
