"""Counters of the machines that are written in Python."""

from __future__ import annotations

import numpy as np

from overclock.machine.machine import Counters


class Tally:
    """Seconds of each instruction, and runs, since they were last taken."""

    def __init__(self, instructions: int) -> None:
        self.seconds = np.zeros(instructions)
        self.runs = 0

    def take(self) -> Counters:
        """What was counted; both begin at zero again."""
        counters = Counters(self.seconds, self.runs, whole=float(self.seconds.sum()))
        self.seconds, self.runs = np.zeros_like(self.seconds), 0
        return counters
