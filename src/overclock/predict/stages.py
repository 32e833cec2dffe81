"""What the clock's own work takes around a run of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds that the clock's stages take around a run: of 1, of a sequence.

    admission: seconds that taking in a request costs whoever ticks
    ratios: times of equal ticks by their median, as they were measured
    """

    tick: float = 0.0
    sequence: float = 0.0
    admission: float = 0.0
    ratios: tuple[float, ...] = (1.0,)

    def seconds(self, sequences: int) -> float:
        """Around a run of so many sequences."""
        return self.tick + self.sequence * sequences
