"""A load for real: the same requests, all of them answered, as the simulation says."""

from __future__ import annotations

import pytest

from overclock.engine import LLM
from overclock.simulate.lengths import Uniform
from overclock.simulate.run import simulate
from overclock.simulate.tempo import ideal_tempo
from overclock.simulate.workload import ClosedLoop, OpenLoop, Prefixes, Sizes, Workload
from overclock.simulate_real import compare, measure, setup_of
from tests.real.models import real

pytestmark = pytest.mark.real

SIZES = Sizes(prompt=Uniform(1, 60), output=Uniform(1, 20), prefixes=Prefixes(2, 64))


@pytest.mark.parametrize(
    "load",
    [
        OpenLoop(rate=4.0, duration=3.0, sizes=SIZES),
        ClosedLoop(users=3, think=0.2, duration=2.0, sizes=SIZES),
    ],
)
def test_a_load_for_real(load: Workload) -> None:
    with LLM(real("smollm2"), context=512) as llm:
        measured = measure(llm, load)
        predicted = simulate(setup_of(llm, ideal_tempo(llm.program, "f16", None), "f16"), load)
    assert measured.ended == measured.came > 0
    assert measured.refused == measured.late == measured.cut == 0
    assert measured.gap.weights.sum() == measured.tokens - measured.ended
    assert 0 < measured.busy <= 1
    assert measured.kv.most > 0
    if isinstance(load, OpenLoop):
        assert measured.came == predicted.came
        assert measured.tokens == predicted.tokens
        assert measured.prompt_tokens == predicted.prompt_tokens
        # Both know each prefix after its first request, unless two came together.
        assert measured.cached == pytest.approx(predicted.cached, abs=0.1)
    assert all(each.measured > 0 for each in compare(predicted, measured))
