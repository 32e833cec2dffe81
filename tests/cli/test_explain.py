"""`overclock explain`: tables when piped, JSON, a page, and one line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from overclock import LLM
from overclock.cli import heat
from overclock.cli.explain import command
from overclock.cli.main import main
from tests.checkpoints import FIXTURES

MACHINE = ["--machine", "reference"]
LLAMA = ["-m", str(FIXTURES / "llama"), *MACHINE, "-n", "4", "--raw"]
CLASSES = ["-m", str(FIXTURES / "bert-sequence"), *MACHINE]


def output(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def tables(text: str) -> list[list[list[str]]]:
    """Blocks of lines with blank lines between them; cells have tabs between them."""
    blocks = text.rstrip("\n").split("\n\n")
    return [[line.split("\t") for line in block.split("\n")] for block in blocks]


def test_piped_there_is_a_table_for_each_method() -> None:
    found = tables(output("hello there", *LLAMA))
    assert [block[0][0] for block in found[1:]] == [
        "said",
        "attention",
        "rollout",
        "occlusion",
        "lens",
    ]
    for block in found[1:]:
        assert {len(row) for row in block} == {len(block[0])}
    value = json.loads(output("hello there", *LLAMA, "--json"))
    assert len(found[1]) == 1 + len(value["targets"])
    for block, numbers in (
        (found[2], value["attention"]["targets"]),
        (found[3], value["attention"]["rollout"]),
        (found[4], value["occlusion"]["falls"]),
    ):
        assert len(block) == 1 + len(value["tokens"])
        for target, row in enumerate(numbers, 1):
            shown = [float(line[target]) if line[target] else None for line in block[1:]]
            assert shown == pytest.approx(row, abs=1e-5)
    assert len(found[5]) == 1 + 2


def test_the_answer_is_that_of_run() -> None:
    value = json.loads(output("hello there", *LLAMA, "--json", "--method", "lens"))
    with LLM(FIXTURES / "llama", machine="reference") as llm:
        expected = llm.generate("hello there", 4)
    assert "".join(each["text"] for each in value["targets"]) == expected.text
    assert value["occlusion"] is None


def test_one_head_of_one_layer() -> None:
    [_, block] = tables(output("hello", *LLAMA, "--method", "attention", "--layer", "1"))
    value = json.loads(
        output("hello", *LLAMA, "--method", "attention", "--layer", "1", "--head", "2", "--json")
    )
    assert (value["attention"]["layer"], value["attention"]["head"]) == (1, 2)
    assert [len(row) for row in block] == [len(block)] * len(block)
    assert block[1][1] == "1"
    assert value["attention"]["map"][0][0] == 1


def test_a_target_takes_the_answers_place() -> None:
    value = json.loads(output("hello", *LLAMA, "--target", " the fox", "--json"))
    assert "".join(each["text"] for each in value["targets"]) == " the fox"


def test_classes_words_and_stdin() -> None:
    arguments = ["-", *CLASSES, "--words", "--target", "two", "--json"]
    result = CliRunner().invoke(command, arguments, input="hello there\n", catch_exceptions=False)
    value = json.loads(result.stdout)
    assert value["kind"] == "sequence"
    assert value["targets"][0]["text"] == "two"
    assert len(value["occlusion"]["groups"]) == 2


def test_a_page_is_written_and_said_so(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    result = CliRunner().invoke(command, ["hello", *CLASSES, "--html", str(file)])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert str(file) in result.stderr
    assert file.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["", *LLAMA], "the prompt is empty"),
        (["hello", *LLAMA, "--layer", "7"], "no layer 7"),
        (["hello", *LLAMA, "--head", "-1"], "no head -1"),
        (["hello " * 200, *LLAMA], "at most 128"),
        (["hello", *LLAMA, "--position", "2"], "--position is for encoders"),
        (["hello", *LLAMA, "--system", "x"], "--system needs the chat template"),
        (["hello", *CLASSES, "--raw"], "is an encoder; it takes no --raw"),
        (["hello", *CLASSES, "--target", "none"], "no class 'none'"),
        (["hello", *LLAMA, "--method", "gradient"], "'gradient' is not one of"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["explain", *arguments])
    assert left.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert heat.shown(" a\n\x1b[31m\t你\x07") == " a⏎�[31m⇥你�"
    assert heat.shown("") == heat.named("") == "�"
    assert [heat.named(text) for text in (" the", "  ", "\n")] == [" the", "␣", "⏎"]


def test_shades() -> None:
    assert heat.shade(0) == heat.shade(float("nan")) == heat.shade(0.05) == ""
    assert heat.shade(1) == heat.shade(7) == "white on #e86200"
    assert heat.shade(-1) == "white on #0078dc"


def test_a_terminal_shows_colours_behind_the_words() -> None:
    console = Console(force_terminal=True, color_system="truecolor", width=80)
    with console.capture() as capture:
        console.print(heat.words(["[bold]", " b\n"], [0.0, 2.0], 2.0), markup=False)
        console.print(heat.grid(["x", "y"], [[1.0, 0.0], [0.0, 1.0]], 1.0), markup=False)
    text = capture.get()
    assert "[bold]" in text
    assert text.count("48;2;232;98;0") == 3
