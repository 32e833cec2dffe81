"""Percentiles and counts over time against NumPy and by hand."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.simulate.measure import Sample, Steps, count_steps, mean_between

VALUES = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(VALUES, st.integers(0, 9)), min_size=1), st.floats(0, 100))
def test_percentiles_are_those_of_numpy(pairs: list[tuple[float, int]], percent: float) -> None:
    values, times = [list(each) for each in zip(*pairs)]
    repeated = np.repeat(values, times)
    sample = Sample.of(values, times)
    if not len(repeated):
        assert sample.is_empty
        assert isnan(sample.percentile(percent))
        return
    wanted = np.percentile(repeated, percent, method="inverted_cdf")
    near = np.percentile(repeated, min(100, percent + 1e-9), method="inverted_cdf")
    assert sample.percentile(percent) in (wanted, near)
    assert sample.mean == pytest.approx(repeated.mean(), abs=1e-6)
    assert sample.most == repeated.max()


def test_percentiles_by_hand() -> None:
    sample = Sample.of([30.0, 10.0, 20.0, 40.0])
    assert sample.percentiles([0, 25, 26, 50, 75, 76, 100]) == [10, 10, 20, 20, 30, 40, 40]


def test_a_number_over_time_weighs_by_how_long_it_lasts() -> None:
    steps = count_steps([1.0, 2.0, 2.0], [2.0, 5.0, 9.0])
    # 1 from 1 s on, 2 from 2 s on (one goes as two come), 1 from 5 s on, 0 from 9 s on.
    assert list(zip(steps.times, steps.values, strict=True)) == [(1, 1), (2, 2), (5, 1), (9, 0)]
    sample = steps.sample(10.0)
    assert sample.values.tolist() == [0, 1, 1, 2]
    assert sample.weights.sum() == 9
    assert sample.mean == pytest.approx((1 * 1 + 2 * 3 + 1 * 4) / 9)
    assert mean_between(steps, 0.0, 4.0) == pytest.approx((0 + 1 + 2 * 2) / 4)
    assert mean_between(steps, 4.0, 6.0) == pytest.approx(1.5)


def test_what_does_not_change_is_noted_once() -> None:
    steps = Steps()
    for at, value in ((0.0, 3.0), (1.0, 3.0), (2.0, 4.0)):
        steps.note(at, value)
    assert steps.times == [0.0, 2.0]
