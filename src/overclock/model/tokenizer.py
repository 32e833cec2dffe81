"""Text to token ids and back, whichever file the tokenizer came in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from overclock.errors import TokenizerError
from overclock.model import tokenizer_file, tokenizer_gguf
from overclock.model.detokenizer import ByteStream, DetokenizerStream, PieceStream
from overclock.model.special_tokens import SpecialTokens, refusals


class Tokenizer:
    """A model's tokenizer: a thin face over the `tokenizers` library.

    Safe to share between threads: nothing changes after construction.
    """

    def __init__(
        self, backend: Backend, special: SpecialTokens, *, vocabulary: int | None = None
    ) -> None:
        """Wrap `backend`. `vocabulary`: rows of the model's embedding, when they may be more."""
        self._backend = backend
        self._special = special
        self._literal = _without_special(backend)
        self.vocabulary = max(_size(backend), vocabulary or 0)
        """Number of ids; those behind the last token (padding of the model's matrix) are empty."""

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        tokenizer_config: Mapping[str, object] | None = None,
        *,
        vocabulary: int | None = None,
    ) -> Tokenizer:
        """Read a `tokenizer.json`, with what its `tokenizer_config.json` says beside it.

        `tokenizer_config` may also hold ``bos_token_id`` and ``eos_token_id`` (a number or a list
        of numbers) as `config.json` and `generation_config.json` give them.

        Raises:
            TokenizerError: the file is missing, damaged or names tokens it does not have.
        """
        return cls(*tokenizer_file.read(Path(path), tokenizer_config or {}), vocabulary=vocabulary)

    @classmethod
    def from_gguf(
        cls, metadata: Mapping[str, object], *, vocabulary: int | None = None
    ) -> Tokenizer:
        """Build the tokenizer that a GGUF file's ``tokenizer.ggml.*`` keys describe.

        Raises:
            TokenizerError: a key is missing or damaged, or the kind of tokenizer is not known.
        """
        return cls(*tokenizer_gguf.build(metadata), vocabulary=vocabulary)

    # text → ids

    def encode(self, text: str, *, special: bool = False, add_bos: bool | None = None) -> list[int]:
        """The ids of `text`.

        Special tokens written out in the text (``<|im_end|>``) are plain text unless `special`,
        so that a user cannot end a turn by typing; the output of a chat template is encoded with
        ``special=True, add_bos=False``.

        `add_bos`: None puts around the text what the tokenizer says (BOS; ``[CLS]`` and
        ``[SEP]``), False nothing, True certainly the BOS in front.

        Text that is not Unicode is made so: surrogate pairs are joined, lone surrogates become
        U+FFFD.

        Raises:
            TokenizerError: `add_bos` is True and the tokenizer has no BOS token, or its tables
                turn out to be damaged.
        """
        backend = self._backend if special else self._literal
        with refusals("the model's tokenizer"):
            ids = backend.encode(_unicode(text), add_special_tokens=False).ids
        return self._wrapped(ids, add_bos)

    def encode_batch(
        self, texts: Sequence[str], *, special: bool = False, add_bos: bool | None = None
    ) -> list[list[int]]:
        """The ids of each text, as `encode` gives them; many texts are spread over threads."""
        backend = self._backend if special else self._literal
        listed = [_unicode(text) for text in texts]
        with refusals("the model's tokenizer"):
            encodings = backend.encode_batch_fast(listed, add_special_tokens=False)
        return [self._wrapped(encoding.ids, add_bos) for encoding in encodings]

    def _wrapped(self, ids: list[int], add_bos: bool | None) -> list[int]:
        if add_bos is False:
            return ids
        prefix = list(self._special.prefix)
        if add_bos and not prefix:
            prefix = [self._certain_bos]
        return prefix + ids + list(self._special.suffix)

    @cached_property
    def _certain_bos(self) -> int:
        if self.bos_id is None:
            raise TokenizerError(
                "this tokenizer has no beginning-of-sequence token; leave add_bos out"
            )
        return self.bos_id

    # ids → text

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """The text of `ids`; bytes that are no character show as U+FFFD.

        Raises:
            TokenizerError: an id is negative or beyond the vocabulary.
        """
        listed = list(ids)
        for id in (min(listed, default=0), max(listed, default=0)):
            self._check(id)
        return self._backend.decode(listed, skip_special_tokens=skip_special)

    def stream(self, *, skip_special: bool = False) -> DetokenizerStream:
        """A fresh stream that turns ids into text one by one (see `DetokenizerStream`)."""
        stream = ByteStream(self.token) if self._is_byte_level else self._piece_stream()
        return _Filtered(stream, self.special_ids if skip_special else frozenset(), self._check)

    def _piece_stream(self) -> PieceStream:
        return PieceStream(
            lambda ids: self._backend.decode(list(ids), skip_special_tokens=False),
            self._byte_ids.__contains__,
        )

    @cached_property
    def _is_byte_level(self) -> bool:
        decoder = self._backend.decoder
        return decoder is not None and _kinds(decoder.__getstate__()) == ["ByteLevel"]

    @cached_property
    def _byte_ids(self) -> frozenset[int]:
        found = (self._backend.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        return frozenset(id for id in found if id is not None)

    # the vocabulary

    def token(self, id: int) -> str:
        """The token as the vocabulary spells it; empty for ids that only pad the model.

        Raises:
            TokenizerError: the id is negative or beyond the vocabulary.
        """
        self._check(id)
        return self._backend.id_to_token(id) or ""

    def id(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it, or None if it has no such token."""
        return self._backend.token_to_id(token)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """All ids of special (control) tokens."""
        added = self._backend.get_added_tokens_decoder()
        return frozenset(id for id, token in added.items() if token.special)

    @property
    def adds_bos(self) -> bool:
        """Whether `encode` puts the BOS token in front unless told otherwise."""
        return self.bos_id is not None and self._special.prefix[:1] == (self.bos_id,)

    @property
    def bos_id(self) -> int | None:
        """Beginning of sequence."""
        return self._special.bos

    @property
    def eos_id(self) -> int | None:
        """End of sequence: the one the file names first."""
        return self._special.eos

    @property
    def eos_ids(self) -> frozenset[int]:
        """All ids that end a turn: end of sequence, of turn, of message, of text."""
        return self._special.ends

    @property
    def unk_id(self) -> int | None:
        """What stands for text that the vocabulary cannot spell."""
        return self._special.unk

    @property
    def pad_id(self) -> int | None:
        """Padding."""
        return self._special.pad

    @property
    def cls_id(self) -> int | None:
        """Classification token, in front of an encoder's text."""
        return self._special.cls

    @property
    def sep_id(self) -> int | None:
        """Separator, behind each of an encoder's texts."""
        return self._special.sep

    @property
    def mask_id(self) -> int | None:
        """The token a masked language model fills in."""
        return self._special.mask

    def _check(self, id: int) -> None:
        if not 0 <= id < self.vocabulary:
            raise TokenizerError(
                f"token id {id} is outside this tokenizer's vocabulary of {self.vocabulary}; "
                "does the tokenizer belong to the model?"
            )


@dataclass(frozen=True, slots=True)
class _Filtered:
    """A stream that checks ids and leaves some out."""

    stream: ByteStream | PieceStream
    skipped: frozenset[int]
    check: Callable[[int], None]

    def push(self, id: int) -> str:
        """See `DetokenizerStream`."""
        self.check(id)
        return "" if id in self.skipped else self.stream.push(id)

    def finish(self) -> str:
        """See `DetokenizerStream`."""
        return self.stream.finish()


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _size(backend: Backend) -> int:
    added = max(backend.get_added_tokens_decoder(), default=-1)
    return max(backend.get_vocab_size(with_added_tokens=False), added + 1)


def _without_special(backend: Backend) -> Backend:
    """A second tokenizer on the same model (not a copy of it) to which special tokens are text."""
    twin = Backend(backend.model)
    for part in ("normalizer", "pre_tokenizer"):
        if getattr(backend, part) is not None:
            setattr(twin, part, getattr(backend, part))
    added = [token for _, token in sorted(backend.get_added_tokens_decoder().items())]
    twin.add_tokens(added)
    twin.encode_special_tokens = True
    special = [token.content for token in added if token.special]
    if special and isinstance(backend.model, models.Unigram):
        twin.pre_tokenizer = _cut_into(special, backend.pre_tokenizer)
    return twin


def _cut_into(
    special: Sequence[str], before: pre_tokenizers.PreTokenizer | None
) -> pre_tokenizers.Sequence:
    """A step behind `before` that cuts special tokens behind their first letter.

    Unigram models choose among all tokens of the vocabulary, these included; cut, they are never
    found as a whole.
    """
    cuts = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in special)
    split = pre_tokenizers.Split(Regex(cuts), behavior="isolated")
    return pre_tokenizers.Sequence([split] if before is None else [before, split])


def _kinds(decoder_state: bytes) -> list[str]:
    """The type names of a decoder's steps, from the JSON it is pickled as."""
    state = json.loads(decoder_state)
    return [step["type"] for step in state.get("decoders", [state])]
