"""What tokens spell, against what the tokenizer decodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.clock.grammar_tokens import Tokens, engine_tokenizer
from tests.clock.grammar_walks import KINDS, PADDING, tokenizer
from tests.model.nasty import CORPUS, LANGUAGES

kinds = pytest.mark.parametrize("kind", KINDS)


def tokens(kind: str) -> Tokens:
    return Tokens(tokenizer(kind), tokenizer(kind).vocabulary + PADDING)


@kinds
def test_bytes_add_up_to_the_decoded_text(kind: str) -> None:
    known, table = tokenizer(kind), tokens(kind)
    for text in [*CORPUS, *LANGUAGES]:
        ids = [id for id in known.encode(text, add_bos=False) if id not in table.special]
        spelled = b"".join(table.spelled[id] for id in ids).decode("utf-8", "replace")
        if table.drops_first_space:
            spelled = spelled.removeprefix(" ")
        assert spelled == known.decode(ids)


@kinds
def test_the_engine_knows_the_same_bytes(kind: str) -> None:
    table = tokens(kind)
    engine = engine_tokenizer(table)
    assert engine.vocab_size == table.vocabulary
    assert sorted(engine.eos_tokens) == sorted(tokenizer(kind).eos_ids)
    for id, spelled in enumerate(table.spelled):
        assert engine.is_special_token(id) == (id in table.special)
        if id not in table.special and spelled not in (b"", b"\xff"):
            assert engine.decode_bytes([id]) == spelled


@kinds
def test_every_byte_can_be_spelled(kind: str) -> None:
    assert {bytes([byte]) for byte in range(256)} <= set(tokens(kind).spelled)


def test_only_vocabularies_with_a_prefix_drop_the_first_space() -> None:
    assert [kind for kind in KINDS if tokens(kind).drops_first_space] == ["sentencepiece"]


@kinds
def test_tokens_that_begin_with_a_space(kind: str) -> None:
    table = tokens(kind)
    words = table.with_space
    found = {id for id in range(table.vocabulary) if words[id // 32] >> (id % 32) & 1}
    plain = set(range(table.vocabulary)) - table.special
    assert found == {id for id in plain if table.spelled[id].startswith(b" ")}


@kinds
@given(text=st.text(st.characters(codec="utf-8")))
def test_what_is_encoded_is_spelled_exactly(kind: str, text: str) -> None:
    table = tokens(kind)
    ids = table.encode(text)
    assert not table.special.intersection(ids)
    assert b"".join(table.spelled[id] for id in ids) == text.encode()


def test_normalised_text_is_spelled_as_it_is() -> None:
    decomposed = "e\u0301"
    known = tokenizer("byte-level")
    assert known.decode(known.encode(decomposed)) == "é"
    ids = tokens("byte-level").encode(decomposed)
    assert known.decode(ids) == decomposed


def test_special_tokens_are_known_by_name() -> None:
    table = tokens("byte-level")
    assert table.special_id("<|im_end|>") == tokenizer("byte-level").id("<|im_end|>")
    assert table.special_id("<tool_call>") is None
    assert table.special_id("nothing") is None
