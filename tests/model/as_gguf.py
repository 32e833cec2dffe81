"""Hugging Face tokenizers as the metadata that a converter to GGUF writes."""

from __future__ import annotations

import json

from tokenizers import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def _tokens(tokenizer: Tokenizer) -> dict[str, object]:
    spelled = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    assert [id for _, id in spelled] == list(range(len(spelled)))
    added = tokenizer.get_added_tokens_decoder()
    types = [NORMAL] * len(spelled)
    for id, token in added.items():
        types[id] = CONTROL if token.special else USER_DEFINED
    return {
        "tokenizer.ggml.tokens": [token for token, _ in spelled],
        "tokenizer.ggml.token_type": types,
    }


def byte_level(tokenizer: Tokenizer, pre: str, **keys: object) -> dict[str, object]:
    """A byte-level BPE tokenizer whose pre-tokenizer goes by the name `pre`."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        **_tokens(tokenizer),
        **{f"tokenizer.ggml.{name}": value for name, value in keys.items()},
    }


def word_piece(tokenizer: Tokenizer, **keys: object) -> dict[str, object]:
    """A WordPiece tokenizer: word starts are marked instead of continuations."""
    metadata = _tokens(tokenizer)
    tokens = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    metadata["tokenizer.ggml.tokens"] = [
        token if type == CONTROL else token[2:] if token.startswith("##") else "▁" + token
        for token, type in zip(tokens, types)
    ]
    names = {f"tokenizer.ggml.{name}": value for name, value in keys.items()}
    return {"tokenizer.ggml.model": "bert", **metadata, **names}
