"""`overclock whatif` on tiny models, with a calibration that measures hardly anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from overclock.cli.whatif import command
from overclock.errors import InputError
from overclock.machine.limits import QUANTITIES
from tests.checkpoints import FIXTURES
from tests.predict import rig

pytest.importorskip("overclock._native")

LLAMA = ("-m", str(FIXTURES / "llama"), "--threads", "1")
BERT = ("-m", str(FIXTURES / "bert-mean"), "--threads", "1")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rig.tiny(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("OVERCLOCK_LIVE", "0")


def run(*words: str) -> Result:
    return CliRunner().invoke(command, list(words))


def found(*words: str) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("model", [LLAMA, BERT], ids=["decoder", "encoder"])
def test_usual_changes_are_predicted_the_best_first(model: tuple[str, ...]) -> None:
    answer = found(*model)
    figures = {"speed", "low", "high", "prompt", "memory", "limit"}
    assert set(answer["base"]) == figures | {
        *("model", "threads", "kv", "streams", "context", "prompt")
    }
    gains = [each["gain"] for each in answer["changes"]]
    assert gains
    assert gains == sorted(gains, reverse=True)
    for each in answer["changes"]:
        assert set(each) >= figures | {"what", "kind", "gain", "gain_low", "gain_high"}
        assert each["gain_low"] <= each["gain"] <= each["gain_high"]


def test_a_small_model_is_asked_for_no_more_than_it_has_room_for() -> None:
    answer = found(*LLAMA, "--kv-formats", "i8")
    assert answer["base"]["context"] == 64
    assert [each["what"] for each in answer["changes"]] == ["KV i8"]
    encoder = found(*BERT, "--stream-counts", "3")
    assert encoder["base"]["context"] == 32


def test_a_table_when_piped() -> None:
    result = run(*LLAMA, "--weights", "F16", "--ffn", "0.5", "--speculation", "0.7:4")
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert len(rows) == 5
    assert rows[1][0] == "as it is"
    assert {row[0] for row in rows[2:]} == {
        "weights F16",
        "feed-forward 32 wide instead of 64",
        "4 guesses a tick, 70% of which come true",
    }


def test_another_computer(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.json"
    limits = {name: {"1": 1e4} for name in QUANTITIES}
    sheet.write_text(json.dumps({"cpu": "A large one", **limits}))
    (change,) = found(*LLAMA, "--computer", str(sheet))["changes"]
    assert change["what"] == "on A large one with 1 threads"
    assert change["gain"] > 1
    sheet.write_text(json.dumps({**limits, "f32_gflops": {"1": 0}}))
    result = run(*LLAMA, "--computer", str(sheet))
    assert isinstance(result.exception, InputError)
    assert str(sheet) in str(result.exception)


def test_what_is_tried_goes_into_the_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    answer = found(*LLAMA, "--at", "40", "--ffn", "0.5", "--apply", "--ledger", str(ledger))
    (change,) = answer["changes"]
    assert change["measured"]["speed"] > 0
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    quantities = {line["quantity"] for line in lines}
    assert quantities == {"generation tokens/s", "speed-up", "memory, bytes"}
    for line in lines:
        assert line["low"] <= line["predicted"] <= line["high"]
        assert line["what"] == change["what"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--speculation", "2:4"], "--speculation takes pairs"),
        (["--speculation", "nan:4"], "--speculation takes pairs"),
        (["--speculation", "0.5"], "--speculation takes pairs"),
        (["--ffn", "1.5"], "--ffn takes numbers"),
        (["--ffn", "x"], "--ffn takes numbers"),
        (["--contexts", "-5"], "--contexts takes whole numbers"),
        (["--thread-counts", "0"], "whole numbers of 1 to 4096"),
        (["--machine", "reference"], "native machine"),
        (["--draft", "x"], "leave"),
        (["--int8"], "--int8 is for encoders"),
    ],
)
def test_words_that_cannot_be(words: list[str], said: str, tmp_path: Path) -> None:
    result = run(*LLAMA, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at", "128"], "--at 128 is more than the 127 tokens"),
        (["--prompt", "129"], "--prompt 129 is more than the 128 tokens"),
        (["--contexts", "9999999999"], "room for; take less"),
        (["--weights", "Q9"], "Q9 is no weight format"),
        (["--kv-formats", "f8"], "kv cannot become"),
        (["--without-layers", "2"], "cannot be left out"),
        (["--thread-counts", "4096"], "cores"),
        (["--computer", "nothing.json"], "nothing.json"),
    ],
)
def test_changes_that_cannot_be(words: list[str], said: str, tmp_path: Path) -> None:
    result = run(*LLAMA, *words)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
    assert not list(tmp_path.rglob("*.json")), "nothing is measured for it"
