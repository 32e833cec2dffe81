"""Byte-level BPE as tokenizer.json writes it, for every pre-tokenizer that GGUF files name."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    trainers,
)
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers as steps

from tests.model.nasty import TRAINING

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
