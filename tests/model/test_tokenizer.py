"""Byte-level BPE and WordPiece, from both kinds of file, against the Hugging Face library's ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import (
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as steps

from overclock.errors import TokenizerError
from overclock.model.tokenizer import Tokenizer
from tests.model import as_gguf
from tests.model.byte_level import (
    CONTROL,
    DEFINITIONS,
    train_byte_level,
)
from tests.model.nasty import CORPUS, EVERYTHING, LONG, SPECIAL, TRAINING, unicode


@pytest.fixture(scope="module", params=sorted(DEFINITIONS))
def pre(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def original(pre: str) -> Backend:
    return train_byte_level(pre)


@pytest.fixture(scope="module")
def converted(pre: str, original: Backend) -> Tokenizer:
    keys = {"bos_token_id": 1, "eos_token_id": 2, "padding_token_id": 0, "add_bos_token": False}
    return Tokenizer.from_gguf(as_gguf.byte_level(original, pre, **keys))


def test_gguf_ids_are_those_of_the_original(original: Backend, converted: Tokenizer) -> None:
    for text in EVERYTHING:
        assert converted.encode(text, special=True) == original.encode(unicode(text)).ids


def test_gguf_text_is_that_of_the_original(original: Backend, converted: Tokenizer) -> None:
    for text in EVERYTHING:
        ids = original.encode(unicode(text)).ids
        assert converted.decode(ids) == original.decode(ids, skip_special_tokens=False)
        assert converted.decode(ids, skip_special=True) == original.decode(ids)


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    keys = {"bos_token_id": 1, "eos_token_id": 2, "padding_token_id": 0}
    return Tokenizer.from_gguf(as_gguf.byte_level(train_byte_level("smollm"), "smollm", **keys))


def test_special_tokens_in_text_stay_text(small: Tokenizer) -> None:
    for text in [*CONTROL, *SPECIAL, "a<|im_end|>b"]:
        ids = small.encode(text)
        assert not small.special_ids.intersection(ids)
        assert small.decode(ids) == text


def test_special_tokens_are_taken_when_asked(small: Tokenizer) -> None:
    assert small.encode("<|im_start|>", special=True) == [1]
    ids = small.encode("<|im_start|>a<|im_end|>", special=True)
    assert (ids[0], ids[-1]) == (1, 2)
    assert small.decode(ids, skip_special=True) == "a"


def test_user_defined_tokens_are_always_taken(small: Tokenizer) -> None:
    assert small.encode("<tool_call>") == [small.id("<tool_call>")]


def test_lone_surrogates_become_replacement_characters(small: Tokenizer) -> None:
    assert small.decode(small.encode("a\ud800b")) == "a\ufffdb"
    assert small.decode(small.encode("\ud83d\ude00")) == "😀"


def test_batch_is_one_by_one(small: Tokenizer) -> None:
    texts = [text for text in EVERYTHING if text not in LONG]
    for special in (False, True):
        one_by_one = [small.encode(text, special=special) for text in texts]
        assert small.encode_batch(texts, special=special) == one_by_one


def test_bos_is_put_in_front_when_asked_or_said(small: Tokenizer) -> None:
    plain = small.encode("hello")
    assert not small.adds_bos
    assert small.encode("hello", add_bos=True) == [1, *plain]
    assert small.encode("hello", add_bos=False) == plain
    keys = {"bos_token_id": 1, "add_bos_token": True}
    adding = Tokenizer.from_gguf(as_gguf.byte_level(train_byte_level("gpt-2"), "gpt-2", **keys))
    assert adding.adds_bos
    assert adding.encode("")[0] == 1
    assert adding.encode("", add_bos=False) == []


def test_no_bos_to_put(small: Tokenizer) -> None:
    bare = Tokenizer.from_gguf(as_gguf.byte_level(train_byte_level("gpt-2"), "gpt-2"))
    with pytest.raises(TokenizerError, match="beginning-of-sequence"):
        bare.encode("a", add_bos=True)


def test_ids_of_special_tokens(small: Tokenizer) -> None:
    assert (small.bos_id, small.eos_id, small.pad_id) == (1, 2, 0)
    assert small.eos_ids == {0, 2}  # <|endoftext|> ends a turn by its name
    assert small.special_ids == {0, 1, 2}
    assert (small.cls_id, small.sep_id, small.mask_id) == (None, None, None)
    assert small.token(2) == "<|im_end|>"
    assert small.id("<|im_end|>") == 2
    assert small.id("no such token") is None


def test_a_wider_model_matrix_decodes_to_nothing() -> None:
    metadata = as_gguf.byte_level(train_byte_level("gpt-2"), "gpt-2")
    narrow = Tokenizer.from_gguf(metadata)
    wide = Tokenizer.from_gguf(metadata, vocabulary=narrow.vocabulary + 10)
    assert wide.vocabulary == narrow.vocabulary + 10
    assert wide.decode([*narrow.encode("a b"), wide.vocabulary - 1]) == "a b"
    assert wide.stream().push(wide.vocabulary - 1) == ""


@pytest.mark.parametrize("id", [-1, 10**6, 2**40])
def test_ids_out_of_range(small: Tokenizer, id: int) -> None:
    for action in (small.token, small.stream().push, lambda id: small.decode([1, id])):
        with pytest.raises(TokenizerError, match=str(id)):
            action(id)


@given(st.text(st.characters(exclude_categories=())))
def test_encode_then_decode_gives_the_text(small: Tokenizer, text: str) -> None:
    assert small.decode(small.encode(text)) == unicode(text)


@given(data=st.data(), skip=st.booleans())
@settings(max_examples=300)
def test_stream_adds_up_to_decode(small: Tokenizer, data: st.DataObject, skip: bool) -> None:
    ids = data.draw(st.lists(st.integers(0, small.vocabulary - 1)))
    stream = small.stream(skip_special=skip)
    shown = [stream.push(id) for id in ids]
    assert "".join(shown) + stream.finish() == small.decode(ids, skip_special=skip)


def test_stream_shows_no_half_character(small: Tokenizer) -> None:
    for text in CORPUS:
        stream = small.stream()
        shown = "".join(stream.push(id) for id in small.encode(text, special=True))
        assert shown == text
        assert stream.finish() == ""


# tokenizer.json


def _with_bos(backend: Backend) -> Backend:
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|im_start|> $A", special_tokens=[(CONTROL[1], 1)]
            ),
        ]
    )
    return backend


@pytest.fixture(scope="module")
def json_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backend = _with_bos(train_byte_level("llama-bpe"))
    backend.enable_truncation(8)
    backend.enable_padding(length=8)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return path


def test_json_ids_are_those_of_the_library(json_file: Path) -> None:
    backend = Backend.from_file(str(json_file))
    backend.no_truncation()
    backend.no_padding()
    tokenizer = Tokenizer.from_file(json_file, {"bos_token": "<|im_start|>"})
    assert tokenizer.adds_bos
    for text in EVERYTHING:
        assert tokenizer.encode(text, special=True) == backend.encode(unicode(text)).ids


def test_json_roles_come_from_the_configuration(json_file: Path) -> None:
    config = {
        "bos_token": None,
        "eos_token": {"content": "<|im_end|>", "lstrip": False},
        "pad_token": "<|endoftext|>",
        "eos_token_id": [2, 1],
    }
    tokenizer = Tokenizer.from_file(json_file, config)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (None, 2, 0)
    assert tokenizer.eos_ids == {0, 1, 2}


def test_json_with_an_overruled_bos(json_file: Path) -> None:
    config = {"bos_token": "<|im_start|>", "add_bos_token": False}
    assert Tokenizer.from_file(json_file, config).adds_bos  # its class does not read the flag
    llama = {**config, "tokenizer_class": "LlamaTokenizerFast"}
    assert not Tokenizer.from_file(json_file, llama).adds_bos


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"eos_token": "<nowhere>"}, "<nowhere>"),
        ({"eos_token_id": 10**6}, "1000000"),
        ({"bos_token_id": [-1]}, "-1"),
        ({"eos_token_id": "x"}, "'x'"),
    ],
)
def test_configuration_names_unknown_tokens(
    json_file: Path, config: dict[str, object], named: str
) -> None:
    with pytest.raises(TokenizerError, match=named):
        Tokenizer.from_file(json_file, config)


def _word_piece() -> Backend:
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = steps.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    backend.train_from_iterator(TRAINING, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return backend


@pytest.fixture(scope="module")
def word_piece() -> Backend:
    return _word_piece()


@pytest.fixture(scope="module", params=["gguf", "json"])
def bert(
    request: pytest.FixtureRequest, word_piece: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    if request.param == "gguf":
        return Tokenizer.from_gguf(as_gguf.word_piece(word_piece, cls_token_id=2))
    path = tmp_path_factory.mktemp("bert") / "tokenizer.json"
    word_piece.save(str(path))
    return Tokenizer.from_file(path)


def test_word_piece_ids_are_those_of_the_library(bert: Tokenizer, word_piece: Backend) -> None:
    for text in EVERYTHING:
        ids = bert.encode(text, special=True)
        assert ids == word_piece.encode(unicode(text)).ids
        assert bert.decode(ids, skip_special=True) == word_piece.decode(ids)


def test_word_piece_special_tokens(bert: Tokenizer) -> None:
    assert (bert.pad_id, bert.unk_id, bert.cls_id, bert.sep_id, bert.mask_id) == (0, 1, 2, 3, 4)
    assert bert.encode("") == [2, 3]
    assert bert.encode("[MASK]", special=True, add_bos=False) == [4]
    assert 4 not in bert.encode("[MASK]")


@given(data=st.data(), skip=st.booleans())
def test_word_piece_stream_adds_up(bert: Tokenizer, data: st.DataObject, skip: bool) -> None:
    ids = data.draw(st.lists(st.integers(0, bert.vocabulary - 1)))
    stream = bert.stream(skip_special=skip)
    shown = "".join(stream.push(id) for id in ids) + stream.finish()
    assert shown == bert.decode(ids, skip_special=skip)


def test_capitals_survive_where_the_vocabulary_has_them() -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁Hello", "▁hello"]
    metadata = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3, 3, 1, 1],
    }
    cased = Tokenizer.from_gguf(metadata)
    assert cased.encode("Hello hello") == [2, 4, 5, 3]


# bad input
