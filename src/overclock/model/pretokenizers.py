"""How byte-level vocabularies cut text into words before merging: by the name GGUF files give.

A GGUF file carries tokens and merges but only the *name* of its pre-tokenizer
(`tokenizer.ggml.pre`). Each entry states what the `tokenizer.json` of the models behind that name
defines: normaliser, splits, and whether a word found whole in the vocabulary skips the merges.
Source: the published `tokenizer.json` files of the models named in the comments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tokenizers import Regex
from tokenizers import pre_tokenizers as steps

from overclock.errors import TokenizerError

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _gpt4(digits: str) -> str:
    """The pattern of GPT-4 and its followers; `digits` says how many digits stay together."""
    letters = r"[^\r\n\p{L}\p{N}]?\p{L}+"
    return rf"{_CONTRACTION}|{letters}|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}"


def _camel(suffix: str, digits: str) -> str:
    """The pattern of GPT-4o and Tekken, which also splits where lower case turns to upper."""
    before = r"[^\r\n\p{L}\p{N}]?"
    words = f"{before}{_UPPER}*{_LOWER}+{suffix}|{before}{_UPPER}+{_LOWER}*{suffix}"
    return rf"{words}|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"


_DEEPSEEK_V3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BLANKS}"
)

Step = Literal["gpt2", "digits", "digit runs", "punctuation"]


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """A pre-tokenizer's definition.

    `splits` are taken in order: a `Step`'s name or ``"~" + regular expression`` whose matches are
    cut out. GPT-2's own pattern, where it is named, comes with the mapping of bytes to letters;
    otherwise that mapping follows the last split.
    """

    splits: tuple[str, ...]
    nfc: bool = False  # text is composed (Unicode NFC) first
    ignore_merges: bool = False  # a word that is a token as a whole is not merged from its parts
    adds_bos: bool = False  # these two hold if the file does not say
    adds_sep: bool = False

    def build(self) -> steps.Sequence:
        """The `tokenizers` object that does it."""
        sequence = [_step(split) for split in self.splits]
        if "gpt2" not in self.splits:
            sequence.append(steps.ByteLevel(add_prefix_space=False, use_regex=False))
        return steps.Sequence(sequence)


def _step(split: str) -> steps.PreTokenizer:
    if split.startswith("~"):
        return steps.Split(Regex(split[1:]), behavior="isolated")
    if split == "gpt2":
        return steps.ByteLevel(add_prefix_space=False, use_regex=True)
    if split == "punctuation":
        return steps.Punctuation(behavior="contiguous")
    return steps.Digits(individual_digits=split == "digits")


_GPT2 = PreTokenizer(("gpt2",))
_ROBERTA = PreTokenizer(("gpt2",), adds_bos=True, adds_sep=True)
_NEOX = PreTokenizer(("gpt2",), nfc=True)
_DIGITS = PreTokenizer(("digits", "gpt2"))
_FALCON = PreTokenizer(("punctuation", "gpt2", "digit runs", "~[0-9][0-9][0-9]"))
_LLAMA3 = PreTokenizer(("~" + _gpt4("{1,3}"),), ignore_merges=True, adds_bos=True)
_GPT4 = PreTokenizer(("~" + _gpt4("{1,3}"),))
_QWEN2 = PreTokenizer(("~" + _gpt4(""),), nfc=True)
_GPT4O = PreTokenizer(("~" + _camel(_CONTRACTION + "?", "{1,3}"),))
_TEKKEN = PreTokenizer(("~" + _camel("", ""),), ignore_merges=True, adds_bos=True)
_CODER = PreTokenizer((r"~[\r\n]", r"~\s?\p{L}+", r"~\s?\p{P}+", "~[一-龥ࠀ-一가-퟿]+", "digits"))
_DEEPSEEK = PreTokenizer((r"~\p{N}{1,3}", "~[一-龥぀-ゟ゠-ヿ]+", "~" + _DEEPSEEK_V3))

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": _FALCON,  # files older than the key; what readers have used for them since
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "jais": _GPT2,
    "roberta-bpe": _ROBERTA,
    "jina-v1-en": _ROBERTA,
    "jina-v2-code": _ROBERTA,
    "jina-v2-de": _GPT2,
    "jina-v2-es": _GPT2,
    "mpt": _NEOX,
    "olmo": _NEOX,
    "modern-bert": _NEOX,
    "smollm": _DIGITS,  # SmolLM, SmolLM2
    "starcoder": _DIGITS,  # StarCoder, Granite code
    "refact": _DIGITS,  # Refact, Granite 3
    "codeshell": _DIGITS,
    "command-r": PreTokenizer(("digits", "gpt2"), nfc=True),
    "falcon": _FALCON,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,  # Llama 3, SmolLM3
    "falcon3": _LLAMA3,
    "dbrx": _GPT4,  # DBRX, Phi-4
    "smaug-bpe": _GPT4,
    "chatglm-bpe": _GPT4,
    "glm4": _GPT4,
    "qwen2": _QWEN2,  # Qwen 2, 2.5 and 3
    "deepseek-r1-qwen": _QWEN2,
    "megrez": _QWEN2,
    "stablelm2": _QWEN2,
    "gpt-4o": _GPT4O,  # GPT-4o's, Phi-4 mini, gpt-oss, Granite 4
    "llama4": _GPT4O,
    "tekken": _TEKKEN,  # Mistral NeMo and later
    "deepseek-coder": _CODER,
    "deepseek-v3": _DEEPSEEK,
}


def named(name: str) -> PreTokenizer:
    """The pre-tokenizer a GGUF file calls `name`.

    Raises:
        TokenizerError: the name is not known.
    """
    found = PRE_TOKENIZERS.get(name)
    if found is None:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        raise TokenizerError(
            f"the file's pre-tokenizer (tokenizer.ggml.pre) is {name!r}, which is not known here; "
            f"known are {known}"
        )
    return found
