"""An explanation as one JSON value."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from overclock.explain.explanation import Explanation
from overclock.explain.lens import Lens
from overclock.explain.looks import Bytes, Looks
from overclock.explain.occlusion import Occlusion

DIGITS = 6
"""Decimals of every number: more than f32 sums of attention are sure of."""

Record = dict[str, object]


def record(found: Explanation) -> Record:
    """All that was found out; parts that were not asked for are null."""
    return {
        "model": found.model,
        "kind": found.kind,
        "prompt_tokens": found.prompt,
        "tokens": [
            {"id": token.id, "text": token.text, "special": token.is_special}
            for token in found.tokens
        ],
        "targets": [
            {"text": each.text, "places": list(each.places), "value": _number(each.value)}
            for each in found.targets
        ],
        "attention": found.looks and _attention(found, found.looks),
        "lens": found.lens and _lens(found.lens, found.names),
        "occlusion": found.occlusion and _occlusion(found.occlusion, len(found.tokens)),
    }


def maps_record(found: Explanation) -> Record | None:
    """Every map that was kept, for a page: bytes of 255 · √p in base64, row after row.

    Where tokens see only what is before them, a row ends with its own token.
    """
    if found.looks is None or found.looks.kept is None:
        return None
    kept = found.looks.kept
    is_causal = found.kind == "decoder"
    data = _packed(kept, is_causal=is_causal).tobytes()
    return {
        "layers": kept.shape[0],
        "heads": kept.shape[1],
        "causal": is_causal,
        "data": base64.b64encode(data).decode("ascii"),
    }


def _packed(kept: Bytes, *, is_causal: bool) -> Bytes:
    if not is_causal:
        return kept
    rows, columns = np.tril_indices(kept.shape[-1])
    return kept[:, :, rows, columns]


def _attention(found: Explanation, looks: Looks) -> Record:
    places = [each.places for each in found.targets]
    return {
        "layer": looks.layer,
        "head": looks.head,
        "map": _numbers(looks.map),
        "received": _numbers(looks.received),
        "entropy": _numbers(looks.entropy),
        "targets": [_numbers(looks.of(each)) for each in places],
        "rollout": [_numbers(looks.of(each, rolled=True)) for each in places],
    }


def _lens(lens: Lens, names: Mapping[int, str]) -> Record:
    """Lists by layer, then by target; for each target the layer from which it was settled."""
    layers = len(lens.rank)
    return {
        "top": [
            [
                [
                    {"text": names[column], "probability": round(share, DIGITS)}
                    for column, share in zip(columns, shares)
                ]
                for columns, shares in zip(*rows)
            ]
            for rows in zip(lens.top.tolist(), lens.shares.tolist())
        ],
        "probability": _numbers(lens.probability),
        "rank": lens.rank.tolist(),
        "divergence": _numbers(lens.divergence),
        "settled": [layer if layer < layers else None for layer in lens.settled().tolist()],
    }


def _occlusion(occlusion: Occlusion, tokens: int) -> Record:
    """`falls` by target, then by token; null for a token that was not left out."""
    return {
        "measure": occlusion.measure,
        "groups": [list(group) for group in occlusion.groups],
        "whole": _numbers(occlusion.whole),
        "falls": [
            [None if np.isnan(fall) else round(fall, DIGITS) for fall in row]
            for row in occlusion.by_token(tokens).tolist()
        ],
    }


def _numbers(array: NDArray[np.floating]) -> list[object]:
    rounded: list[object] = np.round(array.astype(np.float64), DIGITS).tolist()
    return rounded


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
