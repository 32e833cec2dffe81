"""`overclock bench`: what is reported; how fast it is is nobody's business here."""

from __future__ import annotations

import json

from tests.cli.commands import ENCODER, LLAMA, run


def test_a_language_model() -> None:
    code, out, _ = run("bench", *LLAMA, "--repetitions", "2", "--json")
    assert code == 0
    found = json.loads(out)
    names = [result["name"] for result in found["results"]]
    assert names == ["prompt of 128", "start of the process to first token"]
    for result in found["results"]:
        assert 0 < result["low"] <= result["median"] <= result["high"]
    assert found["peak_memory_bytes"] > 1 << 20


def test_an_encoder_as_a_table() -> None:
    code, out, _ = run("bench", *ENCODER, "--repetitions", "1")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 4
    assert all("texts/s" in line for line in lines[1:])
