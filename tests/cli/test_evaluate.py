"""`overclock evaluate perplexity`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overclock import LLM
from overclock.evaluate import perplexity
from tests.checkpoints import FIXTURES
from tests.cli.commands import LLAMA, run

TEXT = "The quick brown fox jumps over the lazy dog. " * 9


def test_json_and_table_and_stdin(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    with LLM(FIXTURES / "llama", machine="reference") as llm:
        expected = perplexity(llm, TEXT, window=64, windows=2)
    arguments = [*LLAMA, "--window", "64", "--windows", "2"]
    code, out, err = run("evaluate", "perplexity", str(file), *arguments, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == {"perplexity", "top1", "tokens"}
    assert found["perplexity"] == pytest.approx(expected.perplexity, rel=1e-4)
    assert found["tokens"] == expected.tokens == 2 * 63
    code, out, _ = run("evaluate", "perplexity", "-", *arguments, stdin=TEXT.encode())
    assert code == 0
    head, row = (line.split("\t") for line in out.splitlines())
    assert head == ["perplexity", "top-1", "tokens"]
    assert float(row[0]) == pytest.approx(expected.perplexity, rel=1e-4)
