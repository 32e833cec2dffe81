"""One pass over all layers' attention, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overclock.explain import attention
from overclock.explain.compiled import Attention

Array = NDArray[np.float32]
Bytes = NDArray[np.uint8]

KEPT_BYTES = 12 << 20
"""Most bytes of maps that are kept to be looked at; beyond it only the mean of a layer's heads."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Where T tokens look, in L layers of H heads.

    layer, head: what `map` is of; None for the mean over all
    map: ``f32[T, T]``; a row is a token that looks, a column one that is looked at
    received: ``f32[T]``, what a token gets from those that see it, the mean over all heads
    entropy: ``f32[L, H]``, how widely a head looks, in nats
    rollout: ``f32[T, T]``, how much of a column's token has come to a row's in the end
    kept: ``u8[L, H or 1, T, T]``, 255 · √p of every map, or of the mean of a layer's heads; None
        if they were not wanted
    """

    layer: int | None
    head: int | None
    map: Array
    received: Array
    entropy: Array
    rollout: Array
    kept: Bytes | None

    def of(self, places: Sequence[int], *, rolled: bool = False) -> Array:
        """The mean of what some tokens look at, ``f32[T]``; `rolled` asks the rollout."""
        rows = (self.rollout if rolled else self.map)[list(places)]
        return np.asarray(rows.mean(axis=0), np.float32)


def surveyed(
    sites: Sequence[Attention],
    layers: Iterable[Array],
    *,
    layer: int | None = None,
    head: int | None = None,
    keep: bool = False,
) -> Looks:
    """What is kept of every layer's maps, ``f32[H, T, T]`` each and one at a time."""
    survey = _Survey(sites, layer, head, keep)
    rollout = attention.rolled_out(map(survey.take, layers))
    count = len(survey.entropy) if layer is None else 1
    return Looks(
        layer,
        head,
        survey.map / np.float32(count),
        survey.received / np.float32(len(survey.entropy)),
        np.stack(survey.entropy),
        rollout,
        np.stack(survey.kept) if keep else None,
    )


class _Survey:
    """Sums over the layers that have passed."""

    def __init__(
        self, sites: Sequence[Attention], layer: int | None, head: int | None, keep: bool
    ) -> None:
        self.map = np.zeros((), np.float32)
        self.received = np.zeros((), np.float32)
        self.entropy: list[Array] = []
        self.kept: list[Bytes] = []
        self._sites = sites
        self._wanted = layer, head
        self._keep = keep

    def take(self, maps: Array) -> Array:
        """Note a layer's maps, and hand them on."""
        number = len(self.entropy)
        layer, head = self._wanted
        if layer in (None, number):
            self.map = self.map + (maps.mean(axis=0) if head is None else maps[head])
        self.received = self.received + attention.received(self._sites[number], maps)
        self.entropy.append(attention.entropy(maps))
        if self._keep:
            fits = len(self._sites) * maps.size <= KEPT_BYTES
            shown = maps if fits else maps.mean(axis=0, keepdims=True)
            self.kept.append(np.rint(np.sqrt(shown) * 255).astype(np.uint8))
        return maps
