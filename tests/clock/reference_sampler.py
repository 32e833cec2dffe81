"""All rules of sampling in the plain words of their papers: sort everything, compute in float64."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from overclock.clock.sampling import Sampling

Logits = NDArray[np.float32]
_MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def uniform(seed: int, count: int) -> float:
    """The `count`-th number of `seed`'s sequence, in [0, 1)."""
    return (mix((mix(seed & _MASK) + count * GOLDEN) & _MASK) >> 11) * 2.0**-53


def mix(x: int) -> int:
    """splitmix64, one step."""
    x = (x + GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    scores = logits.astype(np.float64)
    scores -= scores.max()
    result: NDArray[np.float64] = scores - math.log(math.fsum(np.exp(scores)))
    return result


def edited(
    logits: Logits,
    rules: Sampling,
    prompt: Sequence[int],
    answer: Sequence[int],
    banned: Collection[int] = (),
    allowed: Collection[int] | None = None,
) -> Logits:
    """The logits after mask, bias, bans and penalties, each in f32."""
    scores = logits.copy()
    if allowed is not None:
        scores[[t for t in range(len(scores)) if t not in allowed]] = -np.inf
    for token, bias in rules.logit_bias:  # type: ignore[misc]
        scores[token] = np.float64(scores[token]) + bias
    if len(answer) < rules.min_tokens:
        scores[list(banned)] = -np.inf
    for token in set(prompt) | set(answer):
        x = float(scores[token])
        x = x / rules.repetition_penalty if x > 0 else x * rules.repetition_penalty
        times = list(answer).count(token)
        scores[token] = x - (rules.presence_penalty * (times > 0) + rules.frequency_penalty * times)
    for token, length in repetitions([*prompt, *answer], rules).items():
        loss = rules.dry_multiplier * rules.dry_base ** (length - rules.dry_allowed_length)
        scores[token] = float(scores[token]) - loss
    return scores


def repetitions(tokens: Sequence[int], rules: Sampling) -> dict[int, int]:
    """DRY: for each token that would continue a repetition, the length of the longest."""
    tokens = tokens[-rules.dry_range :] if rules.dry_range else tokens
    found: dict[int, int] = {}
    for end in range(1, len(tokens)):  # is tokens[:end] followed by what would repeat?
        length = 0
        while (
            length < end
            and tokens[end - 1 - length] == tokens[-1 - length]
            and tokens[-1 - length] not in rules.dry_breakers
        ):
            length += 1
        if length >= rules.dry_allowed_length and tokens[end] not in rules.dry_breakers:
            found[tokens[end]] = max(length, found.get(tokens[end], 0))
    return found


def probabilities(scores: Logits, rules: Sampling) -> dict[int, float]:
    """Of the tokens that temperature, top-k, typical-p, top-p and min-p leave, by their ids."""
    best = float(scores.max())
    weights = {t: _power(float(x), best, rules.temperature) for t, x in enumerate(scores)}
    kept = sorted(weights, key=lambda t: -scores[t])
    if rules.top_k is not None and rules.top_k < len(kept):
        kept = [t for t in kept if scores[t] >= scores[kept[rules.top_k - 1]]]
    if rules.typical_p is not None and rules.typical_p < 1:
        kept = _typical(weights, kept, rules.typical_p)
    if rules.top_p is not None and rules.top_p < 1:
        kept = _nucleus(weights, kept, {t: -weights[t] for t in kept}, rules.top_p)
    if rules.min_p:
        most = max(weights[t] for t in kept)
        kept = [t for t in kept if weights[t] >= rules.min_p * most]
    total = math.fsum(weights[t] for t in kept)
    return {t: weights[t] / total for t in sorted(kept)}


def _power(score: float, best: float, temperature: float) -> float:
    if score == -math.inf:
        return 0.0
    return math.exp(max((score - best) / temperature, -700.0))


def _typical(weights: dict[int, float], kept: list[int], share: float) -> list[int]:
    total = math.fsum(weights[t] for t in kept)
    information = {t: -math.log(weights[t] / total) if weights[t] else math.inf for t in kept}
    entropy = math.fsum(weights[t] / total * information[t] for t in kept if weights[t])
    return _nucleus(weights, kept, {t: abs(information[t] - entropy) for t in kept}, share)


def _nucleus(
    weights: dict[int, float], kept: list[int], order: dict[int, float], share: float
) -> list[int]:
    """The first tokens in their order whose weights reach a share of the sum, and their ties."""
    total = math.fsum(weights[t] for t in kept)
    reached = 0.0
    ranked = sorted(kept, key=lambda t: order[t])
    for last in ranked:
        reached += weights[last]
        if reached >= share * total:
            break
    return [t for t in ranked if order[t] <= order[last]]


def choice(chances: dict[int, float], number: float) -> tuple[int, float]:
    """Walk along the ids until the number is used up; the token, and how far inside it that is."""
    reached = 0.0
    for token, chance in chances.items():
        if number < reached + chance:
            return token, min(number - reached, reached + chance - number)
        reached += chance
    return max(token for token, chance in chances.items() if chance), 0.0
