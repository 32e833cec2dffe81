"""Setups whose times can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overclock.clock.settings import ClockSettings
from overclock.predict.kernels import Lengths
from overclock.predict.predictor import Predictor
from overclock.predict.stages import Stages
from overclock.simulate.run import drive
from overclock.simulate.station import Log, Setup, Station
from overclock.simulate.tempo import CalibratedTempo, Tempo
from overclock.simulate.workload import Workload
from tests.clock.ledger import ledger_program

CONTEXT = 2048


@dataclass
class Linear:
    """A run takes `run_s`, `row_s` more for each row and `past_s` for each token seen."""

    run_s: float = 0.01
    row_s: float = 0.0
    past_s: float = 0.0
    stages_s: float = 0.0
    admission_s: float = 0.0
    ratios: Sequence[float] = (1.0,)

    def run(self, lengths: NDArray[np.int32], contexts: NDArray[np.int32], selected: int) -> float:
        return self.run_s + self.row_s * int(lengths.sum()) + self.past_s * int(contexts.sum())

    def stages(self, sequences: int, rows: int, tokens: int) -> float:
        return self.stages_s * sequences

    def admission(self, prompt: int) -> float:
        return self.admission_s * prompt


class Asked(Predictor):
    """Predicts what a linear tempo says, and notes what it was asked."""

    def __init__(self, tempo: Linear) -> None:
        self.tempo = tempo
        self.loads: list[Lengths] = []

    def seconds(self, load: Lengths) -> float:
        self.loads.append(load)
        lengths, contexts = (each.astype(np.int32) for each in (load.lengths, load.contexts))
        return self.tempo.run(lengths, contexts, load.selected)


def calibrated(tempo: Linear, ratios: tuple[float, ...] = (1.0,)) -> CalibratedTempo:
    """A calibrated tempo that knows nothing yet, of a computer that a linear one describes."""
    stages = Stages(1e-3, 1e-4, admission=2e-3, ratios=ratios)
    return CalibratedTempo(Asked(tempo), stages)


def setup(
    tempo: Tempo | None = None,
    settings: ClockSettings | None = None,
    pages: int = 4096,
    *,
    leaps: bool = True,
) -> Setup:
    return Setup(
        program=ledger_program(CONTEXT, vocabulary=1000),
        tempo=tempo or Linear(),
        pages=pages,
        context=CONTEXT,
        settings=settings or ClockSettings(),
        leaps=leaps,
    )


ONE = ClockSettings(streams=1, queue=1 << 20)
"""One request after the other."""


def logged(setup: Setup, workload: Workload) -> Log:
    """What one station notes of a load. Nothing of its pages may be lost at the end."""
    station = Station(setup)
    drive([station], workload.source())
    station.clock.check_integrity()
    assert station.load == 0
    return station.log
