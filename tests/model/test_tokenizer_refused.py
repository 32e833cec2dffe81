"""Damaged tokenizer files and metadata: refused with a sentence that names what is wrong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    decoders,
)

from overclock.errors import TokenizerError
from overclock.model.pretokenizers import PRE_TOKENIZERS
from overclock.model.tokenizer import Tokenizer
from tests.model import as_gguf
from tests.model.byte_level import (
    train_byte_level,
)


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
