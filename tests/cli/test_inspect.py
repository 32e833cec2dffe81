from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from overclock.cli.inspect import command
from overclock.errors import OverclockError
from overclock.model import load
from overclock.model.formats import Format
from overclock.program.passes import PASSES
from tests.program.models import decoder


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load", lambda name: decoder(format=Format.Q8_0))


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(command, ["tiny", *arguments])
    if isinstance(result.exception, OverclockError):
        raise result.exception
    return result


def test_a_listing() -> None:
    result = run("--tokens", "5", "--context", "3")
    assert result.exit_code == 0
    assert "T = 5 tokens of S = 1 sequences with 3 before them" in result.output
    assert "rope_store" in result.output


def test_json_of_another_mode() -> None:
    value = json.loads(run("--json", "--exact", "--kv", "f32").output)
    assert value["exact"] is True
    assert value["kv"] == "f32"
    assert value["batch"]["lengths"] == [1]


def test_passes_can_be_left_out() -> None:
    value = json.loads(run("--json", "--without", "fuse_gate", "--without", "fuse_residual").output)
    opcodes = set(value["opcodes"])
    assert {"gate", "add"} <= opcodes
    assert "gated_matmul" not in opcodes


def test_mistakes_are_told() -> None:
    with pytest.raises(OverclockError, match="no pass 'fuse_all'"):
        run("--without", "fuse_all")
    with pytest.raises(OverclockError, match="no output 'mood'"):
        run("--output", "mood")
    with pytest.raises(OverclockError, match="more than the 64 tokens"):
        run("--tokens", "65")


def test_help_lists_the_passes() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    assert all(f"  {each.name} " in text for each in PASSES)
