"""The tokenizers of the two default models, against figures from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend

from overclock.errors import SourceError
from overclock.model import source
from overclock.model.chat import ChatTemplate
from overclock.model.gguf import read_gguf
from overclock.model.tokenizer import Tokenizer
from tests.model.nasty import EVERYTHING, unicode

pytestmark = pytest.mark.real

# apply_chat_template of transformers 5 gives the same
GOLDEN_CONVERSATION = [
    *(1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407),
    *(19712, 8182, 2, 198, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198),
    *(1, 520, 9531, 198),
]
WIKITEXT = Path(__file__).parents[3] / "shared/data/perplexity/wikitext2_valid.txt"


def _resolve(name: str) -> Path:
    try:
        return source.resolve(name)
    except SourceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def smollm2() -> tuple[Tokenizer, ChatTemplate]:
    metadata = read_gguf(_resolve("smollm2")).metadata
    tokenizer = Tokenizer.from_gguf(metadata)
    template = metadata["tokenizer.chat_template"]
    assert isinstance(template, str)
    return tokenizer, ChatTemplate(template, bos="<|im_start|>", eos="<|im_end|>")


@pytest.mark.skipif(not WIKITEXT.exists(), reason="the shared data is not here")
def test_smollm2_on_wikitext(smollm2: tuple[Tokenizer, ChatTemplate]) -> None:
    ids = smollm2[0].encode(WIKITEXT.read_text("utf-8"))
    assert ids[:8] == [3717, 446, 12928, 21777, 310, 2078, 21777, 446]


def test_smollm2_conversation(smollm2: tuple[Tokenizer, ChatTemplate]) -> None:
    tokenizer, template = smollm2
    text = template.render([{"role": "user", "content": "What is the capital of France?"}])
    assert tokenizer.encode(text, special=True, add_bos=False) == GOLDEN_CONVERSATION
    assert tokenizer.decode([504, 3575, 282, 4649, 314, 7042, 30, 2]) == (
        "The capital of France is Paris.<|im_end|>"
    )
    assert 2 in tokenizer.eos_ids


def test_smollm2_loses_nothing(smollm2: tuple[Tokenizer, ChatTemplate]) -> None:
    tokenizer = smollm2[0]
    for text in EVERYTHING:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == unicode(text)
        stream = tokenizer.stream()
        assert "".join(map(stream.push, ids)) + stream.finish() == unicode(text)


def test_minilm() -> None:
    path = _resolve("minilm") / "tokenizer.json"
    tokenizer = Tokenizer.from_file(path)
    original = Backend.from_file(str(path))
    original.no_truncation()
    original.no_padding()
    assert tokenizer.encode("Hello world!") == [101, 7592, 2088, 999, 102]
    for text in EVERYTHING:
        assert tokenizer.encode(text, special=True) == original.encode(unicode(text)).ids
