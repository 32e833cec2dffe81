"""How the next token is chosen from its logits.

The order of the rules is that of transformers: repetition penalty (Keskar et al. 2019), then
temperature, top-k, top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024). A token that ties
with the last one admitted is admitted too, so nothing depends on the order of a sort.

Chance comes from a counter: the n-th token of a request uses the n-th number of its seed, whatever
else the machine has done. The numbers are those of splitmix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from overclock.errors import InputError, MachineError

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_BLOCK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The rules by which tokens are chosen; None switches a rule off.

    temperature: 0 takes the likeliest token always (and ignores every rule but the penalty)
    top_k: choose among this many of the likeliest
    top_p: choose among the fewest likeliest tokens whose probabilities reach this sum
    min_p: choose among the tokens at least this many times as likely as the likeliest
    repetition_penalty: above 1 makes tokens of the prompt and the answer less likely
    seed: the same seed gives the same tokens; None takes one by chance

    Raises InputError if a value is out of its range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 0.0, math.inf, "0 or more")
        _check_whole("top_k", self.top_k, 1)
        if self.top_p is not None:
            _check_number("top_p", self.top_p, 0.0, 1.0, "above 0 and at most 1", above=True)
        if self.min_p is not None:
            _check_number("min_p", self.min_p, 0.0, 1.0, "from 0 to 1")
        _check_number(
            "repetition_penalty", self.repetition_penalty, 0.0, math.inf, "above 0", above=True
        )
        _check_whole("seed", self.seed, 0)


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling`, as keyword arguments."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    seed: int | None


class Sampler:
    """Chooses the tokens of one request, one after the other."""

    def __init__(self, sampling: Sampling, vocabulary: int, prompt: Iterable[int]) -> None:
        """`prompt` is what a repetition penalty holds against a token from the start."""
        self._rules = sampling
        self._seed = int.from_bytes(os.urandom(8)) if sampling.seed is None else sampling.seed
        self._count = 0
        self._seen: NDArray[np.bool_] | None = None
        if sampling.repetition_penalty != 1.0:
            self._seen = np.zeros(vocabulary, np.bool_)
            self._seen[list(prompt)] = True

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next token for its logits ``f32[V]``, which stay as they are.

        Raises MachineError if the likeliest logit is not a number.
        """
        if self._seen is not None:
            logits = _penalize(logits, self._seen, self._rules.repetition_penalty)
        token = _greedy(logits) if self._rules.temperature == 0.0 else self._draw(logits)
        if self._seen is not None:
            self._seen[token] = True
        self._count += 1
        return token

    def _draw(self, logits: NDArray[np.float32]) -> int:
        likeliest = _greedy(logits)
        best = float(logits[likeliest])
        if not math.isfinite(best):
            return likeliest
        tokens, scores = _candidates(logits, best, self._rules)
        weights = np.exp(scores)
        tokens, weights = _nucleus(tokens, weights, self._rules.top_p)
        if self._rules.min_p:
            keep = weights >= self._rules.min_p * weights.max()
            tokens, weights = tokens[keep], weights[keep]
        return int(tokens[_pick(weights, uniform(self._seed, self._count))])


def uniform(seed: int, count: int) -> float:
    """The `count`-th number of `seed`'s sequence, in [0, 1)."""
    # The seed is mixed first, so that neighbouring seeds do not share their numbers.
    return (_mix((_mix(seed & _MASK) + count * _GOLDEN) & _MASK) >> 11) * 2.0**-53


def _mix(x: int) -> int:
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _greedy(logits: NDArray[np.float32]) -> int:
    token = int(logits.argmax())  # a NaN counts as the greatest, so it cannot hide
    if logits[token] != logits[token]:
        raise MachineError("the model's logits are not numbers; its weights may be damaged")
    return token


def _penalize(
    logits: NDArray[np.float32], seen: NDArray[np.bool_], penalty: float
) -> NDArray[np.float32]:
    tokens = np.flatnonzero(seen)
    scores = logits[tokens]
    changed = logits.copy()
    factor = np.float32(penalty)
    changed[tokens] = np.where(scores > 0, scores / factor, scores * factor)
    return changed


def _candidates(
    logits: NDArray[np.float32], best: float, rules: Sampling
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The tokens that top-k admits (or that min-p may), and (logit − best) / temperature."""
    least = -math.inf
    if rules.top_k is not None and rules.top_k < logits.size:
        least = float(np.partition(logits, -rules.top_k)[-rules.top_k])
    if rules.min_p:
        # Only to have less to compute: a little below the bound, which is drawn in _draw. A
        # nucleus counts all tokens, so with top-p the bound must wait.
        bound = best + rules.temperature * math.log(rules.min_p) * 1.001 - 1e-3
        least = max(least, bound) if rules.top_p is None else least
    if least > -math.inf:
        tokens = np.flatnonzero(logits >= least)
        chosen = logits[tokens]
    else:
        tokens, chosen = np.arange(logits.size), logits
    with np.errstate(over="ignore"):  # a tiny temperature makes all but the best impossible
        return tokens, (chosen.astype(np.float64) - best) / rules.temperature


def _nucleus(
    tokens: NDArray[np.intp], weights: NDArray[np.float64], top_p: float | None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The fewest likeliest tokens whose weights reach `top_p` of the sum, in order of the ids."""
    if top_p is None or top_p == 1.0:
        return tokens, weights
    total = float(weights.sum())
    # Tokens lighter than (1 − p) / n of the sum weigh less than 1 − p together: all of the
    # nucleus is among the others, and only those need to be sorted. (0.999 is for rounding.)
    heavy = weights[weights >= 0.999 * (1.0 - top_p) / weights.size * total]
    heavy[::-1].sort()
    last = int(np.searchsorted(np.cumsum(heavy), top_p * total))
    keep = weights >= heavy[min(last, heavy.size - 1)]
    return tokens[keep], weights[keep]


def _pick(weights: NDArray[np.float64], number: float) -> int:
    """The place where the running sum of `weights` passes `number` (0 to 1) of the whole.

    Sums of blocks come first: a running sum over a whole vocabulary is slow.
    """
    sums = np.cumsum(np.add.reduceat(weights, np.arange(0, weights.size, _BLOCK)))
    goal = number * float(sums[-1])
    block = min(int(np.searchsorted(sums, goal, "right")), sums.size - 1)
    goal -= float(sums[block - 1]) if block else 0.0
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
    place = int(np.searchsorted(np.cumsum(inside), goal, "right"))
    if place == inside.size:  # by rounding: the last that is possible at all
        place = int(np.flatnonzero(inside)[-1])
    return block * _BLOCK + place


def _check_number(
    name: str, value: object, low: float, high: float, range: str, *, above: bool = False
) -> None:
    if isinstance(value, (int, float, np.floating)) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and low <= number <= high and not (above and number == low):
            return
    raise InputError(f"{name} is {value!r}; it must be a number {range}")


def _check_whole(name: str, value: object, low: int) -> None:
    if value is None:
        return
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= low:
        return
    raise InputError(f"{name} is {value!r}; it must be a whole number of {low} or more")
