"""Perplexity against a plain computation from whole windows of logits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from overclock import LLM, engine
from overclock.errors import InputError
from overclock.evaluate import perplexity
from tests.checkpoints import FIXTURES

TEXT = "The quick brown fox jumps over the lazy dog. " * 12


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def llm(request: pytest.FixtureRequest) -> Iterator[LLM]:
    with LLM(FIXTURES / request.param, machine="reference") as opened:
        yield opened


def plain(llm: LLM, window: int, windows: int | None) -> tuple[float, float, int]:
    tokenizer = llm.model.tokenizer
    bos = [tokenizer.bos_id or 0] if tokenizer.adds_bos else []
    ids = tokenizer.encode(TEXT, add_bos=False)
    losses, hits = [], []
    for start in range(0, len(ids), window)[:windows]:
        piece = bos + ids[start : start + window]
        logits = np.concatenate([block.astype(np.float64) for block in llm.score(piece)])
        for place in range(len(bos) + 1, len(piece)):
            row = logits[place - 1]
            losses.append(math.log(sum(math.exp(x) for x in row)) - row[piece[place]])
            hits.append(row.argmax() == piece[place])
    return math.exp(sum(losses) / len(losses)), sum(hits) / len(hits), len(losses)


@pytest.mark.parametrize(("window", "windows"), [(16, 3), (2, 5), (100, None), (45, 1)])
def test_it_is_what_the_windows_say(llm: LLM, window: int, windows: int | None) -> None:
    seen = []
    found = perplexity(
        llm, TEXT, window=window, windows=windows, progress=lambda *done: seen.append(done)
    )
    expected = plain(llm, window, windows)
    assert found.perplexity == pytest.approx(
        expected[0], rel=1e-4
    )  # sums of another number of rows round otherwise
    assert found.top1 == expected[1]
    assert found.tokens == expected[2]
    assert seen[-1] == (len(seen), len(seen))


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_blocks_of_logits_change_nothing(
    llm: LLM, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = perplexity(llm, TEXT, window=50)
    monkeypatch.setattr(engine, "SCORE_BYTES", rows * 4 * llm.model.config.vocabulary)
    blocks = perplexity(llm, TEXT, window=50)
    assert blocks.perplexity == pytest.approx(whole.perplexity, rel=1e-5)
    assert blocks.tokens == whole.tokens


def test_a_block_of_logits_is_bounded(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SCORE_BYTES", 7 * 4 * llm.model.config.vocabulary)
    assert [len(block) for block in llm.score(range(3, 20))] == [7, 7, 3]


def test_words_for_special_tokens_are_plain_text(llm: LLM) -> None:
    end = llm.model.tokenizer.token(min(llm.model.tokenizer.eos_ids))
    found = perplexity(llm, f"a{end}b", window=64)
    assert found.tokens == len(llm.model.tokenizer.encode(f"a{end}b", add_bos=False)) - 1 > 2


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "takes 2"),
        (TEXT, {"window": 1}, "window of 1"),
        (TEXT, {"window": 4096}, "window of 4096"),
        (TEXT, {"window": 16, "windows": 0}, "windows is 0"),
    ],
)
def test_what_cannot_be_scored_is_told(
    llm: LLM, text: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        perplexity(llm, text, **{"window": 16, **options})
