"""`overclock run`: what goes to stdout, what to stderr, and the JSON."""

from __future__ import annotations

import json

from overclock import LLM
from tests.checkpoints import FIXTURES
from tests.cli.commands import LLAMA, run

ARGUMENTS = [*LLAMA, "-n", "12", "--ignore-eos"]


def test_the_answer_goes_to_stdout_and_one_line_of_figures_to_stderr() -> None:
    code, out, err = run("run", "hello", *ARGUMENTS)
    assert code == 0
    with LLM(FIXTURES / "llama", machine="reference") as llm:
        messages = [{"role": "user", "content": "hello"}]
        expected = llm.generate(messages, 12, ignore_eos=True)
    assert out == expected.text + "\n"
    [line] = err.splitlines()
    for part in ("tokens/s", "first token after", "MB", f"{expected.usage.prompt_tokens} + 12"):
        assert part in line


def test_json_has_every_field() -> None:
    code, out, err = run("run", "hello", *ARGUMENTS, "--json", "--system", "be kind")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == {
        "text",
        "token_ids",
        "finish_reason",
        "usage",
        "timing",
        "limit_share",
    }
    assert set(found["usage"]) == {
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "drafted_tokens",
        "accepted_tokens",
    }
    assert set(found["timing"]) == {
        "load_s",
        "first_token_s",
        "prompt_tokens_per_s",
        "generation_tokens_per_s",
    }
    assert len(found["token_ids"]) == found["usage"]["completion_tokens"] == 12
    assert found["finish_reason"] == "length"
    assert all(value > 0 for value in found["timing"].values())
    assert found["limit_share"] is None or found["limit_share"] > 0


def test_raw_is_the_text_itself_and_stdin_is_the_prompt() -> None:
    with LLM(FIXTURES / "llama", machine="reference") as llm:
        expected = llm.generate("once upon a time", 12, ignore_eos=True)
    for arguments, stdin in ((["once upon a time"], b""), (["-"], b"once upon a time")):
        code, out, _ = run("run", "--raw", *arguments, *ARGUMENTS, stdin=stdin)
        assert (code, out) == (0, expected.text + "\n")


def test_a_model_without_template_continues_the_text() -> None:
    model = ["-m", str(FIXTURES / "gemma3"), "--machine", "reference", "-n", "4"]
    assert run("run", "hello", *model)[:2] == run("run", "hello", "--raw", *model)[:2]


def test_seeds_and_stops() -> None:
    chance = [*ARGUMENTS, "--temperature", "1.5", "--seed", "3", "--top-k", "50"]
    first = run("run", "hello", *chance)[1]
    assert run("run", "hello", *chance)[1] == first
    stop = first[6:8]
    assert run("run", "hello", *chance, "--stop", stop)[1] == first[: first.index(stop)] + "\n"


def test_prompts_that_are_not_utf8_are_taken() -> None:
    code, _, err = run("run", "-", *ARGUMENTS, stdin=b"\xff\xfe\x00 hello \xed\xa0\x80")
    assert code == 0
    assert "Traceback" not in err
