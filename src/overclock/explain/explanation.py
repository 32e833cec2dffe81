"""An explanation: what was asked of a model, what it answered, and what was found out about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from overclock.errors import InputError
from overclock.explain.explainer import Explainer
from overclock.explain.lens import Lens
from overclock.explain.looks import Looks, surveyed
from overclock.explain.occlusion import Occlusion
from overclock.explain.texts import Token

Method = Literal["attention", "rollout", "lens", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)

Kind = Literal["decoder", "sequence", "token", "masked_lm", "embedding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall be found out.

    layer, head: whose attention map; None for the mean over all
    words: whether occlusion leaves out whole words
    top: how many of a layer's likeliest answers the lens keeps
    keep_maps: whether every map is kept, to be looked at on a page
    """

    methods: frozenset[Method] = frozenset(METHODS)
    layer: int | None = None
    head: int | None = None
    words: bool = False
    top: int = 5
    keep_maps: bool = False

    @property
    def looks(self) -> bool:
        """Whether attention has to be looked at."""
        return not self.methods.isdisjoint(("attention", "rollout"))


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that the model said.

    places: the tokens behind whose last layer it was said
    value: its probability; the score of a head with one label; None for an embedding
    """

    text: str
    places: tuple[int, ...]
    value: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found out about a text and what the model said of it.

    prompt: tokens in front of the answer; all of them for an encoder
    names: the text of every column that the lens names
    """

    model: str
    kind: Kind
    tokens: tuple[Token, ...]
    prompt: int
    targets: tuple[Target, ...]
    names: Mapping[int, str]
    looks: Looks | None
    lens: Lens | None
    occlusion: Occlusion | None


def looks_of(explainer: Explainer, ids: Sequence[int], wanted: Wanted) -> Looks | None:
    """The attention of a text, if it is wanted."""
    if not wanted.looks:
        return None
    maps = explainer.maps(ids)
    layer, head, keep = wanted.layer, wanted.head, wanted.keep_maps
    return surveyed(explainer.sites, maps, layer=layer, head=head, keep=keep)


def lens_of(
    explainer: Explainer,
    ids: Sequence[int],
    places: Sequence[int],
    targets: Sequence[int],
    wanted: Wanted,
) -> Lens | None:
    """The lens at some places, if it is wanted and the model has more than one thing to say.

    Raises InputError if it is the only thing that is wanted, and there is none.
    """
    if "lens" not in wanted.methods:
        return None
    if not explainer.compiled.lenses or explainer.columns < 2:
        if wanted.methods == {"lens"}:
            raise InputError(
                f"{explainer.model.name} does not choose between answers, so there is no lens; "
                "ask for another --method"
            )
        return None
    return explainer.lens(ids, places, targets, wanted.top)


def columns_of(lens: Lens | None) -> list[int]:
    """Every column that the lens names."""
    return [] if lens is None else np.unique(lens.top).tolist()
