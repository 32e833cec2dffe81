"""`overclock trace`: what it prints and writes, and what it refuses before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from overclock.cli.trace import command
from overclock.errors import InputError
from overclock.machine import limits
from overclock.trace.reading import read_document
from tests.cli.commands import ENCODER, LLAMA
from tests.predict import rig


@pytest.fixture(autouse=True)
def known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "load_or_measure", lambda threads: rig.limits())
    monkeypatch.setenv("OVERCLOCK_LIVE", "0")


def run(*words: str) -> Result:
    return CliRunner().invoke(command, list(words))


def found(*words: str) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_an_answer_as_tables() -> None:
    result = run("hello", *LLAMA, "--raw", "-n", "4")
    assert result.exit_code == 0, result.output
    for title in ("where the time went", "by opcode", "by layer", "slowest instructions"):
        assert title in result.stdout
    assert "accounted for" in result.stdout.splitlines()[0]


def test_the_file_is_what_json_prints(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    printed = found("hello", *LLAMA, "--raw", "-n", "4", "-o", str(path), "--cold")
    assert read_document(path) == printed
    assert 0 < printed["accounted_share"] <= 1


def test_streams_and_texts() -> None:
    streams = found("hello", *LLAMA, "--raw", "-n", "3", "--streams", "2")
    assert streams["what"] == {"streams": 2, "prompt_tokens": 10, "tokens": 6} | {
        "prompt_tokens": streams["what"]["prompt_tokens"]
    }
    texts = found("a cat", "a dog", *ENCODER, "--encoder")
    assert texts["kind"] == "encoder"
    assert texts["what"]["texts"] == 2


def test_a_page_with_an_older_trace(tmp_path: Path) -> None:
    old, page = tmp_path / "old.json", tmp_path / "page.html"
    words = ("hello", *LLAMA, "--raw", "-n", "2", "--cold")
    assert run(*words, "-o", str(old)).exit_code == 0
    result = run(*words, "--html", str(page), "--against", str(old))
    assert result.exit_code == 0, result.output
    assert page.read_text().startswith("<!")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hello", "--against", "a.json"], "--against needs --html"),
        (["a", "b"], "several TEXTs"),
        (["a", "--int8"], "go with --encoder"),
        (["a", "--encoder", "--streams", "2"], "for language models"),
        (["a", "--encoder", "--raw"], "for language models"),
        (["a", "--raw", "--system", "be kind"], "--system needs"),
        (["a", "--streams", "0"], "0 is not in the range"),
        (["a", "-n", "0"], "0 is not in the range"),
    ],
)
def test_words_that_do_not_go_together(words: list[str], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("option", ["-o", "--html", "--perfetto"])
def test_a_place_that_is_none_is_said_before_anything_runs(tmp_path: Path, option: str) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "a"):
        result = run("hello", "-m", "no model at all", option, str(place))
        assert result.exit_code == 2
        assert "cannot be written" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_trace_is_refused_first(tmp_path: Path) -> None:
    bad, page = tmp_path / "bad.json", tmp_path / "page.html"
    bad.write_text("{")
    result = run("hello", "-m", "no model", "--html", str(page), "--against", str(bad))
    assert isinstance(result.exception, InputError)
    assert str(bad) in str(result.exception)
    assert not page.exists()


def test_an_encoder_is_no_language_model_and_the_other_way_round() -> None:
    for words in (("hello", *ENCODER), ("hello", *LLAMA, "--encoder")):
        assert isinstance(run(*words).exception, InputError)
