"""The ``tokenizer.ggml.*`` keys of a GGUF file, checked. Source: the GGUF specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from overclock.errors import TokenizerError
from overclock.model.special_tokens import TURN_ENDS, SpecialTokens

_KEY = "tokenizer.ggml."
_NONE = 0xFFFFFFFF  # some writers' way to say that there is no such token

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # values of token_type

_ROLES = {
    "bos": ("bos_token_id",),
    "eos": ("eos_token_id",),
    "unk": ("unknown_token_id",),
    "pad": ("padding_token_id",),
    "cls": ("cls_token_id",),
    "sep": ("seperator_token_id", "separator_token_id"),  # the first spelling is the standard's
    "mask": ("mask_token_id",),
}


class Vocabulary:
    """One file's tokens and what is said about them.

    `ids` maps each token to its id; `types` is ``int64[tokens]`` (`NORMAL`, `CONTROL` …);
    `roles` has the ids of special tokens by role (``bos``, ``eos``, ``unk`` …).
    """

    def __init__(self, metadata: Mapping[str, object]) -> None:
        """Check what every kind of tokenizer needs.

        Raises:
            TokenizerError: tokens are missing, doubled or not text, lists differ in length, or an
                id is no token.
        """
        self._metadata = metadata
        self.tokens = self.texts("tokens")
        self.ids = dict(zip(self.tokens, range(len(self.tokens)), strict=True))
        if len(self.ids) != len(self.tokens):
            self._refuse_double()
        self.types = self._types()
        self.roles = {role: self._id(*names) for role, names in _ROLES.items()}

    def value(self, name: str) -> object:
        """The value of a key, or None."""
        return self._metadata.get(_KEY + name)

    def flag(self, name: str, default: bool) -> bool:
        """A yes-or-no key."""
        value = self.value(name)
        return default if value is None else bool(value)

    def texts(self, name: str) -> list[str]:
        """A key that must be a non-empty list of strings."""
        value = self.value(name)
        if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or not len(value):
            raise TokenizerError(f"the file has no list {_KEY}{name}; fetch the model again")
        listed = list(value)
        if set(map(type, listed)) != {str}:
            raise TokenizerError(f"{_KEY}{name} holds something that is not text")
        return listed

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        """A key with one number for each token, as ``f64[tokens]``, or None."""
        value = self.value(name)
        if value is None:
            return None
        try:
            numbers = np.asarray(value).astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TokenizerError(f"{_KEY}{name} holds something that is not a number") from error
        if numbers.shape != (len(self.tokens),):
            raise TokenizerError(
                f"{_KEY}{name} has the shape {numbers.shape} for {len(self.tokens)} tokens"
            )
        return numbers

    def scores(self) -> list[float]:
        """The tokens' scores, which SentencePiece models must have.

        Raises:
            TokenizerError: there are none, or one is not finite.
        """
        scores = self.numbers("scores")
        if scores is None or not np.isfinite(scores).all():
            raise TokenizerError(f"the file has no usable {_KEY}scores; fetch the model again")
        return [float(score) for score in scores]

    def of_type(self, *types: int) -> list[str]:
        """The tokens of these types, in the order of their ids."""
        return [self.tokens[id] for id in np.flatnonzero(np.isin(self.types, types))]

    def control(self) -> list[str]:
        """Tokens that must never come from plain text: control and unknown."""
        return self.of_type(CONTROL, UNKNOWN)

    def special_tokens(
        self, *, add_bos: bool, add_sep: bool = False, add_eos: bool = False
    ) -> SpecialTokens:
        """Roles, turn ends and what goes around a text; the arguments hold unless the file differs.

        Encoders put ``[CLS]`` where decoders put the BOS.
        """
        roles = self.roles
        first = roles["bos"] if roles["bos"] is not None else roles["cls"]
        prefix = first if self.flag("add_bos_token", add_bos) else None
        suffix = None
        if self.flag("add_sep_token", add_sep):
            suffix = roles["sep"] if roles["sep"] is not None else roles["eos"]
        elif self.flag("add_eos_token", add_eos):
            suffix = roles["eos"]
        return SpecialTokens(
            **roles, ends=self._ends(), prefix=_optional(prefix), suffix=_optional(suffix)
        )

    def _ends(self) -> frozenset[int]:
        control = set(self.control())
        by_name = {self.ids[token] for token in TURN_ENDS if token in control}
        by_key = (self.roles["eos"], self._id("eot_token_id"), self._id("eom_token_id"))
        return frozenset(by_name.union(id for id in by_key if id is not None))

    def _types(self) -> NDArray[np.int64]:
        types = self.numbers("token_type")
        if types is None:
            return np.full(len(self.tokens), NORMAL, np.int64)
        return types.astype(np.int64)

    def _id(self, *names: str) -> int | None:
        for name in names:
            value = self.value(name)
            if value is not None and value != _NONE:
                return self._known(name, value)
        return None

    def _known(self, name: str, value: object) -> int:
        if isinstance(value, int | np.integer) and 0 <= value < len(self.tokens):
            return int(value)
        raise TokenizerError(
            f"{_KEY}{name} is {value!r}, but the file's tokens go from 0 to {len(self.tokens) - 1}"
        )

    def _refuse_double(self) -> None:
        first = next(id for id, token in enumerate(self.tokens) if self.ids[token] != id)
        token = self.tokens[first]
        raise TokenizerError(f"tokens {first} and {self.ids[token]} are both {token!r}")


def _optional(id: int | None) -> tuple[int, ...]:
    return () if id is None else (id,)
