"""A machine that lets a tick's time pass, and leaps over ticks in which nothing can change.

While nobody is in a prompt, every tick gives each request one token, until a request comes, ends or
runs out of time. So many ticks can be one: the machine tells the time of each, and whoever chooses
tokens gives as many at once. All times are the same as without.
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from math import inf
from random import Random

import numpy as np
from numpy.typing import NDArray

from overclock.clock.answer import Answer
from overclock.clock.choosing import Chosen, Logits
from overclock.clock.completion import TokenLogprob
from overclock.clock.roster import Roster
from overclock.clock.sequence import Sequence, answer_of
from overclock.clock.time import VirtualTime
from overclock.errors import MachineError
from overclock.machine.machine import Batch
from overclock.machine.virtual import VirtualMachine
from overclock.program.program import PAGE_TOKENS, KvFormat
from overclock.simulate.tempo import Tempo

MOST_TICKS = 1024
"""Ticks in one leap."""

SEED = 1
"""Of the chance by which equal ticks differ."""

ANY_TOKEN = 0
"""What every answer consists of: nothing here depends on which tokens come."""


class TempoMachine(VirtualMachine):
    """Runs batches in the time that a tempo predicts, the clock's own work around them included.

    until: a leap ends with the first tick that is not over before this time
    delay: seconds that the next run takes longer
    generating: requests that the last run gave one token each
    rest: seconds of the ticks that the last run stands for, without the first
    """

    def __init__(self, tempo: Tempo, kv: KvFormat, time: VirtualTime, leaps: bool) -> None:
        super().__init__(lambda spent, integers: 0.0, kv)
        self.until = inf
        self.delay = 0.0
        self.generating = 0
        self.rest: list[float] = []
        self._tempo = tempo
        self._ratios = tempo.ratios
        self._chance = Random(SEED)
        self._time = time
        self._leaps = leaps
        self._roster: Roster | None = None

    def attach(self, roster: Roster) -> None:
        """Take the roster of the clock that this machine runs for."""
        self._roster = roster

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Rows without columns; the time goes on by the first tick."""
        assert self._roster is not None
        lengths = batch.starts[1:] - batch.starts[:-1]
        seconds = self._seconds(batch, lengths, 0) + self.delay
        self.delay = 0.0
        self.generating = len(self._roster.generating)
        self.rest = []
        if self._leaps and not self._roster.prompting:
            self._leap(batch, lengths, self._time.now() + seconds)
        self._time.advance(seconds)
        return np.empty((len(batch.output_rows), 0), np.float32)

    def _seconds(self, batch: Batch, lengths: NDArray[np.int32], ticks: int) -> float:
        """What a tick takes, so many ticks later; it is asked for once for each tick, in order."""
        contexts = batch.contexts + np.int32(ticks) if ticks else batch.contexts
        selected = len(batch.output_rows)
        run = self._tempo.run(lengths, contexts, selected)
        run += self._tempo.stages(len(contexts), len(batch.token_ids), selected)
        return run * self._chance.choice(self._ratios)

    def _leap(self, batch: Batch, lengths: NDArray[np.int32], at: float) -> None:
        """Say how long the ticks take that can follow at once; `at` is when the first one ends."""
        assert self._roster is not None
        generating = self._roster.generating
        most = min(MOST_TICKS, *map(_left, generating))
        while at < self.until and len(self.rest) + 1 < most:
            if not self._has_room(len(self.rest) + 2):
                break
            seconds = self._seconds(batch, lengths, len(self.rest) + 1)
            self.rest.append(seconds)
            at += seconds
        if self.rest:
            self._grow(1 + len(self.rest))

    def _has_room(self, tokens: int) -> bool:
        """Whether there are pages for so many tokens of every request."""
        assert self._roster is not None
        missing = sum(_missing(each, tokens) for each in self._roster.generating)
        return missing <= self._roster.pages.available

    def _grow(self, tokens: int) -> None:
        """Give every request the pages that it would have been given tick by tick."""
        roster = self._roster
        assert roster is not None
        for sequence in roster.generating:
            missing = _missing(sequence, tokens)
            if missing:
                assert sequence.holding is not None
                have = len(sequence.holding.pages)
                roster.pages.add(sequence.holding, missing)
                roster.show_pages(sequence, have)


class Chooser:
    """Gives every answer a token for each tick of a leap."""

    def __init__(self, machine: TempoMachine) -> None:
        self._machine = machine

    def __call__(
        self, answers: Row[Answer], logits: Logits, rows: Row[int], drafts: Row[list[int]]
    ) -> Chosen:
        """The same tokens for all."""
        tokens = [ANY_TOKEN] * (1 + len(self._machine.rest))
        return [tokens] * len(answers), [None] * len(answers)

    def logprobs(self, logits: Logits, targets: Row[int], top: int) -> list[TokenLogprob]:
        """MachineError: there are no logits."""
        raise MachineError("a simulation has no logits, so there are no logprobs")


def _left(sequence: Sequence) -> int:
    answer = answer_of(sequence)
    return answer.request.max_tokens - len(answer.tokens)


def _missing(sequence: Sequence, tokens: int) -> int:
    """Pages that a request needs for so many more tokens."""
    holding = sequence.holding
    assert holding is not None
    have = len(holding.nodes) + len(holding.own)
    return max(0, -(-(sequence.computed + tokens) // PAGE_TOKENS) - have)
