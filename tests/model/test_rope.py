"""Frequencies against what transformers 5 computes for the same parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from overclock.errors import ModelError
from overclock.model.fields import Fields
from overclock.model.rope import Rope, base_frequencies, rope

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
YARN_FREQUENCIES = [
    1.0, 0.3162723779678345, 0.08891396969556808, 0.018747353926301003, 0.007905694656074047,
    0.0033338037319481373, 0.0014058533124625683, 0.0005928434547968209,
]  # fmt: skip
CASES: list[tuple[dict[str, object], list[float], float]] = [
    (
        {"rope_type": "linear", "factor": 4.0},
        [
            0.25, 0.10542412847280502, 0.04445698484778404, 0.018747353926301003,
            0.007905694656074047, 0.0033338037319481373, 0.0014058533124625683,
            0.0005928434547968209,
        ],
        1.0,
    ),
    (
        {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        [
            1.0, 0.4216965138912201, 0.06430987268686295, 0.009373676963150501,
            0.0039528473280370235, 0.0016669018659740686, 0.0007029266562312841,
            0.00029642172739841044,
        ],
        1.0,
    ),
    (YARN, YARN_FREQUENCIES, 1.138629436111989),
    (
        YARN | {"truncate": False, "beta_fast": 16.0, "beta_slow": 2.0},
        [1.0, 0.2539353370666504, 0.04445698484778404, *YARN_FREQUENCIES[3:]],
        1.138629436111989,
    ),
    (YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}, YARN_FREQUENCIES, 1.0648216253695715),
    (YARN | {"attention_factor": 1.25}, YARN_FREQUENCIES, 1.25),
]  # fmt: skip


def make(parameters: Mapping[str, object], theta: float = 1000.0) -> Rope:
    fields = Fields(Path("config.json"), parameters)
    return rope(fields.text("rope_type", "default"), fields, theta, 16, 256)


@pytest.mark.parametrize(("parameters", "frequencies", "factor"), CASES)
def test_frequencies_are_those_of_transformers(
    parameters: dict[str, object], frequencies: list[float], factor: float
) -> None:
    found = make(parameters)
    np.testing.assert_allclose(found.frequencies, frequencies, rtol=3e-7)
    assert found.score_factor == pytest.approx(factor**2)


def test_without_scaling_frequencies_fall_geometrically() -> None:
    found = make({})
    np.testing.assert_allclose(found.frequencies, 1000.0 ** (-np.arange(8) / 8), rtol=3e-7)
    assert found.frequencies == tuple(base_frequencies(1000.0, 16).tolist())


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rope_type": "longrope"}, "rope_type is 'longrope'; it must be one of default"),
        ({"rope_type": "linear"}, "factor is missing"),
        ({"rope_type": "linear", "factor": 0}, "factor is 0"),
        ({"rope_type": "linear", "factor": float("nan")}, "factor is nan"),
        ({"rope_type": "linear", "factor": True}, "factor is True"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({**CASES[1][0], "high_freq_factor": 0.5}, "high_freq_factor"),
        (YARN | {"original_max_position_embeddings": -1}, "original_max_position_embeddings is -1"),
    ],
)
def test_impossible_scalings_are_refused(parameters: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        make(parameters)
    assert "config.json" in str(caught.value)


def test_a_base_of_one_is_refused() -> None:
    with pytest.raises(ModelError, match=r"base is 1.0"):
        make(YARN, theta=1.0)
