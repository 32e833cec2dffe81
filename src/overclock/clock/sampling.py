"""How the next token is chosen from its logits.

The rules in their order; each sees what the ones before it left:

1. what must not come: the mask of a grammar, `logit_bias`, end tokens before `min_tokens`
2. repetition penalty (Keskar et al. 2019, CTRL): logits of tokens that were there are divided by it
   if positive, else multiplied
3. presence and frequency penalty (OpenAI's API reference): subtracted from the logits of tokens of
   the answer, once and for every time they came
4. DRY, "don't repeat yourself" (p-e-w, text-generation-webui #5677): a token that would continue
   a repetition of n tokens loses dry_multiplier · dry_base^(n − dry_allowed_length)
5. temperature; 0 takes the likeliest token and ends here
6. top-k (Fan et al. 2018), locally typical sampling (Meister et al. 2022), top-p (Holtzman et al.
   2020), min-p (Nguyen et al. 2024)
7. the draw

A token that ties with the last one admitted is admitted too, so nothing depends on the order of a
sort. Chance comes from a counter: the n-th token of a request uses the n-th number of its seed,
whatever else the machine has done. The numbers are those of splitmix64 (Steele, Lea, Flood 2014).

The work is done in cpp/core/sampler.cpp.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from overclock.errors import InputError

if TYPE_CHECKING:
    from overclock.machine.native import Sampler

MOST_LOGPROBS = 20
_SEEDS = 1 << 64
_MOST = (1 << 31) - 1  # what the core counts up to; as a limit of tokens, more says no more

Biases = Mapping[int, float] | Collection[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The rules by which tokens are chosen; None switches a rule off.

    temperature: 0 takes the likeliest token always (and ignores every rule after the penalties)
    top_k: choose among this many of the likeliest
    top_p: choose among the fewest likeliest tokens whose probabilities reach this sum
    min_p: choose among the tokens at least this many times as likely as the likeliest
    typical_p: choose among the tokens whose information is nearest to the mean, the fewest whose
        probabilities reach this sum
    repetition_penalty: above 1 makes tokens of the prompt and the answer less likely
    presence_penalty: above 0 makes tokens of the answer less likely, −2 to 2
    frequency_penalty: the same once for every time a token came, −2 to 2
    dry_multiplier: above 0 makes tokens that continue a repetition less likely
    dry_base: how much more for each token of the repetition beyond dry_allowed_length
    dry_allowed_length: shorter repetitions may be continued
    dry_range: look for repetitions in this many of the last tokens; None: in all
    dry_breakers: ids of tokens that end a repetition
    logit_bias: what is added to the logits of tokens, by their ids; kept as pairs
    min_tokens: an answer does not end before it has so many tokens
    seed: the same seed gives the same tokens; None takes one by chance
    logprobs: note the logprob of each token, and those of this many likeliest, at most 20; they are
        the model's own, before any rule

    Raises InputError if a value is out of its range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_range: int | None = None
    dry_breakers: Collection[int] = ()
    logit_bias: Biases = ()
    min_tokens: int = 0
    seed: int | None = None
    logprobs: int | None = None

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 0.0, math.inf, "0 or more")
        _check_whole("top_k", self.top_k, 1)
        self._check_shares()
        self._check_penalties()
        object.__setattr__(self, "dry_breakers", _to_ids("dry_breakers", self.dry_breakers))
        object.__setattr__(self, "logit_bias", _to_pairs("logit_bias", self.logit_bias))
        _check_whole("min_tokens", self.min_tokens, 0, none=False)
        _check_whole("seed", self.seed, 0)
        _check_whole("logprobs", self.logprobs, 0, MOST_LOGPROBS)

    def _check_shares(self) -> None:
        for name, value in (("top_p", self.top_p), ("typical_p", self.typical_p)):
            if value is not None:
                _check_number(name, value, 0.0, 1.0, "above 0 and at most 1", above=True)
        if self.min_p is not None:
            _check_number("min_p", self.min_p, 0.0, 1.0, "from 0 to 1")

    def _check_penalties(self) -> None:
        _check_number(
            "repetition_penalty", self.repetition_penalty, 0.0, math.inf, "above 0", above=True
        )
        _check_number("presence_penalty", self.presence_penalty, -2.0, 2.0, "from -2 to 2")
        _check_number("frequency_penalty", self.frequency_penalty, -2.0, 2.0, "from -2 to 2")
        _check_number("dry_multiplier", self.dry_multiplier, 0.0, math.inf, "0 or more")
        _check_number("dry_base", self.dry_base, 1.0, math.inf, "1 or more")
        _check_whole("dry_allowed_length", self.dry_allowed_length, 1, none=False)
        _check_whole("dry_range", self.dry_range, 1)


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling`, as keyword arguments."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_range: int | None
    dry_breakers: Collection[int]
    logit_bias: Biases
    min_tokens: int
    seed: int | None
    logprobs: int | None


def sampler(
    sampling: Sampling, vocabulary: int, prompt: Sequence[int], banned: Collection[int] = ()
) -> Sampler:
    """What chooses the tokens of one request.

    vocabulary: how many logits a row has
    prompt: what penalties hold against a token from the start
    banned: the tokens that cannot come before `min_tokens`, which are those that end an answer

    Raises InputError if a bias is for a token that the vocabulary does not have.
    """
    from overclock.machine.native import Sampler  # whoever only checks rules needs no core

    biases = _to_pairs("logit_bias", sampling.logit_bias)
    if biases and biases[-1][0] >= vocabulary:
        raise InputError(
            f"logit_bias has token {biases[-1][0]}; the vocabulary has ids 0 to {vocabulary - 1}"
        )
    seed = int.from_bytes(os.urandom(8)) if sampling.seed is None else int(sampling.seed)
    return Sampler(
        vocabulary,
        list(prompt),
        temperature=sampling.temperature,
        top_k=_bounded(sampling.top_k),
        typical_p=1.0 if sampling.typical_p is None else sampling.typical_p,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        min_p=0.0 if sampling.min_p is None else sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        dry_multiplier=sampling.dry_multiplier,
        dry_base=sampling.dry_base,
        dry_allowed_length=min(sampling.dry_allowed_length, _MOST),
        dry_range=_bounded(sampling.dry_range),
        # A token that the vocabulary does not have never comes.
        dry_breakers=[token for token in sampling.dry_breakers if token < vocabulary],
        logit_bias=list(biases),
        min_tokens=min(sampling.min_tokens, _MOST),
        banned=list(banned),
        seed=seed % _SEEDS,
        logprobs=sampling.logprobs,
    )


def _bounded(value: int | None) -> int | None:
    return None if value is None else min(value, _MOST)


def _to_pairs(name: str, biases: object) -> tuple[tuple[int, float], ...]:
    """The pairs of a mapping or a sequence, in order of their tokens."""
    pairs = tuple(biases.items()) if isinstance(biases, Mapping) else biases
    if not isinstance(pairs, (tuple, list)):
        raise InputError(f"{name} is {biases!r}; it must map token ids to numbers")
    found: dict[int, float] = {}
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InputError(f"{name} has {pair!r}; it must map token ids to numbers")
        _check_whole(f"a token of {name}", pair[0], 0, none=False)
        _check_number(f"{name} of token {pair[0]}", pair[1], -math.inf, math.inf, "that is finite")
        found[int(pair[0])] = float(pair[1])
    return tuple(sorted(found.items()))


def _to_ids(name: str, ids: object) -> tuple[int, ...]:
    if isinstance(ids, (str, bytes, Mapping)) or not isinstance(ids, Collection):
        raise InputError(f"{name} is {ids!r}; it must be token ids")
    for token in ids:
        _check_whole(f"a token of {name}", token, 0, none=False)
    return tuple(sorted({int(token) for token in ids}))


def _check_number(
    name: str, value: object, low: float, high: float, range: str, *, above: bool = False
) -> None:
    if isinstance(value, (int, float, np.floating)) and not isinstance(value, bool):
        number = _to_float(value)
        if math.isfinite(number) and low <= number <= high and not (above and number == low):
            return
    raise InputError(f"{name} is {value!r}; it must be a number {range}")


def _to_float(value: int | float | np.floating) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond 10^308
        return math.inf


def _check_whole(
    name: str, value: object, low: int, high: int | None = None, *, none: bool = True
) -> None:
    if value is None and none:
        return
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        number = int(value)
        if number >= low and (high is None or number <= high):
            return
    wanted = f"of {low} or more" if high is None else f"from {low} to {high}"
    raise InputError(f"{name} is {value!r}; it must be a whole number {wanted}")
