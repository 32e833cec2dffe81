"""The logit lens: what each layer would have said, had it been the last (nostalgebraist 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Lens:
    """What L layers say at P places. Columns are tokens, or labels of a classifier.

    top: ``i32[L, P, k]``, the likeliest columns, best first; shares: ``f32[L, P, k]``, their
    probabilities
    probability: ``f32[L, P]``, that of the column that came in the end
    rank: ``i32[L, P]``, how many columns are likelier than that one
    divergence: ``f32[L, P]``, KL(last layer ‖ this layer) in nats
    """

    top: Integers
    shares: Floats
    probability: Floats
    rank: Integers
    divergence: Floats

    @classmethod
    def of(cls, logits: Floats, targets: Sequence[int], most: int) -> Self:
        """The lens of ``f32[P, L, columns]``, with at most `most` columns for each place."""
        places = [_place(rows, target, most) for rows, target in zip(logits, targets, strict=True)]
        return cls(*(np.stack(parts, axis=1) for parts in zip(*places, strict=True)))

    @classmethod
    def joined(cls, parts: Sequence[Lens]) -> Self:
        """The places of several lenses, in order."""
        names = ("top", "shares", "probability", "rank", "divergence")
        return cls(*(np.concatenate([getattr(p, name) for p in parts], axis=1) for name in names))

    def settled(self) -> Integers:
        """The first layer from which on the column that came stays the likeliest, ``i32[P]``."""
        later = np.flip(np.logical_and.accumulate(np.flip(self.rank == 0, axis=0), axis=0), axis=0)
        return np.asarray(len(self.rank) - later.sum(axis=0), np.int32)


def _place(
    logits: Floats, target: int, most: int
) -> tuple[Integers, Floats, Floats, Integers, Floats]:
    """top, shares, probability, rank and divergence of one place, ``f32[L, columns]``."""
    logs = log_softmax(logits)
    count = min(most, logits.shape[1])
    some = np.argpartition(-logs, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(logs, some, axis=1), axis=1, kind="stable")
    top = np.take_along_axis(some, order, axis=1).astype(np.int32)
    shares = np.exp(np.take_along_axis(logs, top, axis=1))
    own = logs[:, target]
    rank = (logs > own[:, None]).sum(axis=1).astype(np.int32)
    divergence = (np.exp(logs[-1]) * (logs[-1] - logs)).sum(axis=1)
    return top, shares, np.exp(own), rank, np.maximum(divergence, np.float32(0))


def log_softmax(logits: Floats) -> Floats:
    """The logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    sums = np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64)
    return np.asarray(shifted - np.log(sums).astype(np.float32), np.float32)
