"""Tokenizers from the metadata of GGUF files, built as the model's `tokenizer.json` would be.

Source: for SentencePiece models, the conversions that the Hugging Face tokenizers of Llama, Gemma
and T5 come from; for BERT, the GGUF convention of writing word starts with ``▁`` instead of
continuations with ``##``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import overload

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, normalizers
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers as steps

from overclock.errors import TokenizerError
from overclock.model import pretokenizers
from overclock.model.gguf_vocabulary import CONTROL, NORMAL, USER_DEFINED, Vocabulary
from overclock.model.special_tokens import SpecialTokens, refusals

_MOST_UTF8 = 4  # bytes of a character
_BOTH = itemgetter(0, 2)
_SPACE = "▁"  # how SentencePiece writes a space
_BERT_NAMES = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_LLAMA_IDS = {"unk": 0, "bos": 1, "eos": 2}  # of SentencePiece, where a file does not say

Merges = Sequence[tuple[str, str]]
Built = tuple[Backend, SpecialTokens]


def build(metadata: Mapping[str, object]) -> Built:
    """The tokenizer that the keys ``tokenizer.ggml.*`` describe.

    Raises:
        TokenizerError: see `Tokenizer.from_gguf`.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind is None:
        raise TokenizerError("the file has no tokenizer (tokenizer.ggml.model is missing)")
    builder = _BUILDERS.get(str(kind))
    if builder is None:
        raise TokenizerError(
            f"the file's tokenizer (tokenizer.ggml.model) is of the kind {kind!r}; "
            f"known are {', '.join(_BUILDERS)}"
        )
    with refusals("the file's tokenizer"):
        backend, special = builder(Vocabulary(metadata))
    return backend, special


def _byte_level(vocabulary: Vocabulary) -> Built:
    """BPE over bytes: GPT-2 and after."""
    named = pretokenizers.named(str(vocabulary.value("pre") or "default"))
    merges = _merges(vocabulary)
    model = _bpe(vocabulary, merges, ignore_merges=named.ignore_merges)
    backend = Backend(model)
    backend.normalizer = normalizers.NFC() if named.nfc else None
    backend.pre_tokenizer = named.build()
    backend.decoder = decoders.ByteLevel()
    special = vocabulary.special_tokens(add_bos=named.adds_bos, add_sep=named.adds_sep)
    _add_tokens(backend, vocabulary, special)
    return backend, special


def _merges(vocabulary: Vocabulary) -> Merges:
    """The file's merges. What they join and make must be tokens, which the library checks.

    At a merge that makes more than the longest token it panics, so long ones are checked here.
    """
    lines = vocabulary.texts("merges")
    longest = max(map(len, vocabulary.tokens))  # in bytes it is that or more
    _check_merges(vocabulary, [line for line in lines if _MOST_UTF8 * len(line) > longest])
    return _Pairs(lines)


class _Pairs(Sequence[tuple[str, str]]):
    """Lines of two words as pairs, made one by one: the library copies each as it comes."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> _Pairs: ...
    def __getitem__(self, index: int | slice) -> tuple[str, str] | _Pairs:
        if isinstance(index, slice):
            return _Pairs(self._lines[index])
        left, _, right = self._lines[index].partition(" ")
        return left, right

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return map(_BOTH, map(str.partition, self._lines, repeat(" ")))


def _check_merges(vocabulary: Vocabulary, lines: Iterable[str]) -> None:
    for line in lines:
        if line.replace(" ", "", 1) not in vocabulary.ids:
            rank = vocabulary.texts("merges").index(line)
            raise TokenizerError(
                f"merge {rank} of tokenizer.ggml.merges, {line!r}, makes no known token"
            )


def _bpe(vocabulary: Vocabulary, merges: Merges, **options: bool | str | None) -> models.BPE:
    try:
        return models.BPE(vocabulary.ids, merges, **options)
    except Exception:
        if vocabulary.value("merges") is not None:
            _check_merges(vocabulary, vocabulary.texts("merges"))
        raise


def _sentencepiece(vocabulary: Vocabulary) -> Built:
    """SentencePiece BPE: Llama 2, Mistral, Gemma."""
    for role, id in _LLAMA_IDS.items():
        if vocabulary.roles[role] is None and vocabulary.value("bos_token_id") is None:
            vocabulary.roles[role] = min(id, len(vocabulary.tokens) - 1)
    has_merges = vocabulary.value("merges") is not None
    merges = _merges(vocabulary) if has_merges else _merges_from_scores(vocabulary)
    unknown = vocabulary.roles["unk"]
    model = _bpe(
        vocabulary,
        merges,
        unk_token=None if unknown is None else vocabulary.tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Backend(model)
    prefixed = vocabulary.flag("add_space_prefix", default=not has_merges)
    prepend = [normalizers.Prepend(_SPACE)] if prefixed else []
    backend.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if prefixed else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    special = vocabulary.special_tokens(add_bos=True)
    _add_tokens(backend, vocabulary, special)
    return backend, special


def _merges_from_scores(vocabulary: Vocabulary) -> Merges:
    """All ways to put a token together from two others, best token first.

    SentencePiece joins the neighbours whose union has the highest score; as a list of merges that
    is: by falling score, longer left part first. Control tokens and bytes never come from text.
    """
    scores = np.array(vocabulary.scores())
    joinable = set(vocabulary.of_type(NORMAL, USER_DEFINED))
    cuts = [
        (id, cut, len(piece) - cut)
        for id, piece in enumerate(vocabulary.tokens)
        if piece in joinable
        for cut in range(1, len(piece))
        if piece[:cut] in joinable and piece[cut:] in joinable
    ]
    ids, lefts, rights = np.fromiter(chain.from_iterable(cuts), np.int64).reshape(-1, 3).T
    order = np.lexsort((-rights, -lefts, -scores[ids]))
    tokens = vocabulary.tokens
    return [
        (tokens[id][:cut], tokens[id][cut:])
        for id, cut in zip(ids[order].tolist(), lefts[order].tolist(), strict=True)
    ]


def _unigram(vocabulary: Vocabulary) -> Built:
    """SentencePiece unigram: T5, XLM-RoBERTa."""
    unknown = vocabulary.roles["unk"]
    pieces = list(zip(vocabulary.tokens, vocabulary.scores(), strict=True))
    has_bytes = {"<0x00>", "<0xFF>"} <= vocabulary.ids.keys()
    backend = Backend(models.Unigram(pieces, unk_id=unknown, byte_fallback=has_bytes))
    backend.normalizer = normalizers.Sequence(_unigram_normalizers(vocabulary))
    prefixed = vocabulary.flag("add_space_prefix", default=True)
    scheme = "always" if prefixed else "never"
    backend.pre_tokenizer = steps.Metaspace(_SPACE, prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(_SPACE, prepend_scheme=scheme)
    special = vocabulary.special_tokens(add_bos=False, add_eos=True)
    _add_tokens(backend, vocabulary, special)
    return backend, special


def _unigram_normalizers(vocabulary: Vocabulary) -> list[normalizers.Normalizer]:
    found: list[normalizers.Normalizer] = []
    charsmap = vocabulary.value("precompiled_charsmap")
    if isinstance(charsmap, Sequence | np.ndarray) and len(charsmap):
        found.append(normalizers.Precompiled(bytes(np.asarray(charsmap).astype(np.uint8))))
    if vocabulary.flag("remove_extra_whitespaces", default=True):
        found.append(normalizers.Strip(left=False, right=True))
        found.append(normalizers.Replace(Regex(" {2,}"), _SPACE))
    return found


def _wordpiece(vocabulary: Vocabulary) -> Built:
    """WordPiece: BERT."""
    for role, name in _BERT_NAMES.items():
        if vocabulary.roles[role] is None:
            vocabulary.roles[role] = vocabulary.ids.get(name)
    control = set(vocabulary.of_type(CONTROL))
    spelled = {_bert_token(token, control): id for token, id in vocabulary.ids.items()}
    if len(spelled) != len(vocabulary.tokens):
        raise TokenizerError("two of the file's WordPiece tokens are the same")
    unknown = vocabulary.roles["unk"]
    if unknown is None:
        raise TokenizerError("the file's WordPiece vocabulary has no token for unknown words")
    unk_token = _bert_token(vocabulary.tokens[unknown], control)
    backend = Backend(models.WordPiece(spelled, unk_token=unk_token))
    backend.normalizer = normalizers.BertNormalizer(lowercase=not _is_cased(spelled))
    backend.pre_tokenizer = steps.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    special = vocabulary.special_tokens(add_bos=True, add_sep=True)
    _add_tokens(backend, vocabulary, special)
    return backend, special


def _bert_token(token: str, control: Collection[str]) -> str:
    """A GGUF token in BERT's own spelling."""
    if token in control or (token.startswith("[") and token.endswith("]")):
        return token
    return token[1:] if token.startswith(_SPACE) else "##" + token


def _is_cased(spelled: Collection[str]) -> bool:
    """Uncased vocabularies have no capitals; the file itself does not say."""
    return any("A" <= token[:1] <= "Z" for token in spelled)


def _add_tokens(backend: Backend, vocabulary: Vocabulary, special: SpecialTokens) -> None:
    """Tell the tokenizer which tokens are matched whole, before anything else is done to a text."""
    control = dict.fromkeys(vocabulary.control())
    roles = (special.bos, special.eos, special.cls, special.sep, special.mask, special.pad)
    control |= dict.fromkeys(vocabulary.tokens[id] for id in roles if id is not None)
    plain = [token for token in vocabulary.of_type(USER_DEFINED) if token not in control]
    backend.add_tokens([AddedToken(token, normalized=False) for token in plain])
    backend.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in control]
    )


_BUILDERS: dict[str, Callable[[Vocabulary], Built]] = {
    "gpt2": _byte_level,
    "llama": _sentencepiece,
    "gemma4": _sentencepiece,
    "t5": _unigram,
    "bert": _wordpiece,
}
