"""Byte-level BPE and WordPiece, from both kinds of file, against the Hugging Face library's ids."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers as steps

from overclock.errors import TokenizerError
from overclock.model.pretokenizers import PRE_TOKENIZERS
from overclock.model.tokenizer import Tokenizer
from tests.model import as_gguf
from tests.model.nasty import CORPUS, EVERYTHING, LONG, SPECIAL, TRAINING, unicode

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool_call>", "    ", "｜extra▁token｜"]


def _split(pattern: str) -> list[steps.PreTokenizer]:
    return [
        steps.Split(Regex(pattern), behavior="isolated"),
        steps.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def _gpt2() -> steps.PreTokenizer:
    return steps.ByteLevel(add_prefix_space=False)


# What the tokenizer.json of a model with this pre-tokenizer has, written out in full.
DEFINITIONS: dict[str, Callable[[], list[steps.PreTokenizer]]] = {
    "gpt-2": lambda: [_gpt2()],
    "smollm": lambda: [steps.Digits(individual_digits=True), _gpt2()],
    "starcoder": lambda: [steps.Digits(individual_digits=True), _gpt2()],
    "command-r": lambda: [steps.Digits(individual_digits=True), _gpt2()],
    "mpt": lambda: [_gpt2()],
    "falcon": lambda: [
        steps.Punctuation("contiguous"),
        _gpt2(),
        steps.Digits(individual_digits=False),
        steps.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
    ],
    "llama-bpe": lambda: _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": lambda: _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "tekken": lambda: _split(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "gpt-4o": lambda: _split(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "deepseek-coder": lambda: [
        steps.Split(Regex("[\r\n]"), "isolated"),
        steps.Split(Regex(r"\s?\p{L}+"), "isolated"),
        steps.Split(Regex(r"\s?\p{P}+"), "isolated"),
        steps.Split(Regex("[一-龥ࠀ-一가-퟿]+"), "isolated"),
        steps.Digits(individual_digits=True),
        steps.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
}
COMPOSED = {"command-r", "mpt", "qwen2"}
WHOLE_WORDS = {"llama-bpe", "tekken"}


def train_byte_level(pre: str, vocabulary: int = 700) -> Backend:
    """A small tokenizer with the definition of `pre`; specials first, added tokens last."""
    backend = Backend(models.BPE(ignore_merges=pre in WHOLE_WORDS))
    backend.normalizer = normalizers.NFC() if pre in COMPOSED else None
    backend.pre_tokenizer = steps.Sequence(DEFINITIONS[pre]())
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        initial_alphabet=steps.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in CONTROL],
    )
    backend.train_from_iterator(TRAINING, trainer)
    backend.add_tokens([AddedToken(token, normalized=False) for token in USER_DEFINED])
    return backend


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


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"model": {"type": "BPE"}}', b"\xff\xfe", b'{"a": 1}']
)
def test_broken_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.from_file(path)


def test_missing_json_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: No such file"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


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


BAD_METADATA: list[tuple[dict[str, object], str]] = [
    ({"model": None}, "no tokenizer"),
    ({"model": "rwkv"}, "rwkv.*gpt2"),
    ({"pre": "unheard-of"}, "unheard-of.*smollm"),
    ({"tokens": None}, "tokens"),
    ({"tokens": []}, "tokens"),
    ({"tokens": "abc"}, "tokens"),
    ({"tokens": ["a", 1]}, "not text"),
    ({"tokens": ["a", "b", "a"], "token_type": None}, "0 and 2.*'a'"),
    ({"tokens": ["a", "b\udc80"], "token_type": None, "merges": ["a a"]}, "tokenizer"),
    ({"merges": None}, "merges"),
    ({"merges": ["a b c"]}, "merge 0"),
    ({"merges": ["zzz yyy"]}, "merge 0.*zzz yyy"),
    ({"merges": ["<|im_ end|>"]}, "out of vocabulary"),
    ({"merges": ["a"]}, "tokenizer"),
    ({"merges": [1]}, "merges"),
    ({"token_type": [1]}, "shape"),
    ({"token_type": "x"}, "number"),
    ({"bos_token_id": 10**6}, "bos_token_id is 1000000"),
    ({"eos_token_id": -5}, "eos_token_id is -5"),
    ({"eot_token_id": "x"}, "eot_token_id"),
]


@pytest.mark.parametrize(("change", "named"), BAD_METADATA)
def test_bad_metadata(change: dict[str, object], named: str) -> None:
    metadata = as_gguf.byte_level(train_byte_level("gpt-2", 300), "gpt-2", bos_token_id=1)
    metadata |= {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    with pytest.raises(TokenizerError, match=named):
        Tokenizer.from_gguf(metadata)


def test_absent_ids_may_be_written_as_all_ones() -> None:
    metadata = as_gguf.byte_level(train_byte_level("gpt-2", 300), "gpt-2", bos_token_id=0xFFFFFFFF)
    assert Tokenizer.from_gguf(metadata).bos_id is None


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
KEYS = ("pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "add_bos_token")


@given(st.dictionaries(st.sampled_from(KEYS), JSON_VALUE), st.sampled_from(["gpt2", "llama", "t5"]))
def test_any_metadata_builds_or_is_refused(values: dict[str, object], kind: str) -> None:
    metadata: dict[str, object] = {"tokenizer.ggml.model": kind}
    metadata |= {f"tokenizer.ggml.{name}": value for name, value in values.items()}
    with contextlib.suppress(TokenizerError):
        Tokenizer.from_gguf(metadata)


def test_every_pre_tokenizer_builds_and_loses_nothing() -> None:
    for definition in PRE_TOKENIZERS.values():
        built = definition.build()
        letters = "".join(piece for piece, _ in built.pre_tokenize_str("Don't 12345 好 é\r\n  x"))
        assert decoders.ByteLevel().decode([letters]) == "Don't 12345 好 é\r\n  x"
