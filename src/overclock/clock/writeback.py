"""Fourth stage of a tick: tokens are chosen, text is made, answers end, pages come back."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.clock.answer import Answer
from overclock.clock.choosing import Choosy
from overclock.clock.completion import Piece
from overclock.clock.guess import count_guesses, note, start_lookup
from overclock.clock.request import Score
from overclock.clock.roster import Event, Roster
from overclock.clock.sequence import Sequence, answer_of, wants_all
from overclock.clock.work import Part, Work
from overclock.errors import MachineError, OverclockError
from overclock.program.program import PAGE_TOKENS
from overclock.trace.record import Meter

Logits = NDArray[np.float32]
Ready: TypeAlias = tuple[Sequence, int, list[int]]
"""Who gets tokens, the first of its rows in the logits, and its guesses."""


class WriteBack:
    """Takes the machine's logits back into the requests."""

    def __init__(self, roster: Roster, choosing: Choosy, meter: Meter) -> None:
        self._roster = roster
        self._choosing = choosing
        self._meter = meter

    def __call__(
        self, work: Work, logits: Logits, failed: dict[Sequence, MachineError], now: float
    ) -> int:
        """Run the stage at time `now`; how many tokens the answers gained."""
        for sequence, error in failed.items():
            self._roster.end(sequence, "error", error)
        self._advance(work)
        ready: list[Ready] = [
            (each, row, []) for row, each in enumerate(work.plain) if not each.ended
        ]
        for part in work.parts:
            if part.sequence.ended or not self._collect(part, logits):
                continue
            self._roster.settle(part.sequence)
            if part.drafts or (part.outputs and not part.sequence.left):
                ready += self._begin(part)
        return self._choose(ready, logits, now)

    def _advance(self, work: Work) -> None:
        """Note what stands in KV pages now. Guesses count once they have come true."""
        for sequence in work.plain:
            sequence.computed += 1
        for part in work.parts:
            part.sequence.computed += part.count - len(part.drafts)

    def _collect(self, part: Part, logits: Logits) -> bool:
        """Keep what the logits of a prompt's rows say, for those who asked; False if it failed."""
        sequence = part.sequence
        if part.drafts or not wants_all(sequence):
            return True
        # A request that lost its pages comes by the same rows again.
        known = max(0, sequence.scored - (sequence.computed - part.count))
        rows = logits[part.first + known : part.first + part.outputs]
        sequence.scored = max(sequence.scored, sequence.computed)
        if sequence.answer is None:
            sequence.blocks.append(rows.copy())
            return True
        return self._note_logprobs(sequence, sequence.answer, rows)

    def _note_logprobs(self, sequence: Sequence, answer: Answer, rows: Logits) -> bool:
        """How likely the prompt's tokens behind `rows`, the last ones that ran, were."""
        assert answer.prompt_logprobs is not None
        at = sequence.computed - len(rows)
        targets = sequence.tokens[at + 1 : sequence.computed + 1]
        top = answer.request.prompt_logprobs or 0
        try:
            found = self._choosing.logprobs(rows[: len(targets)], targets, top)
        except MachineError as error:
            self._roster.end(sequence, "error", error)
            return False
        answer.prompt_logprobs += found
        return True

    def _begin(self, part: Part) -> list[Ready]:
        """A part whose last row tells the next token: where that row is, and the guesses."""
        sequence = part.sequence
        if isinstance(sequence.ticket.request, Score):
            self._roster.end(sequence, "stop")
            return []
        if not part.drafts:
            self._roster.prompting.remove(sequence)
            self._roster.generating.append(sequence)
            self._roster.version += 1
            return [(sequence, part.first + part.outputs - 1, [])]
        return [(sequence, part.first, part.drafts)]

    def _choose(self, ready: list[Ready], logits: Logits, now: float) -> int:
        answers = [answer_of(sequence) for sequence, _, _ in ready]
        rows = [row for _, row, _ in ready]
        drafts = [guesses for _, _, guesses in ready]
        begun = self._meter.now()
        chosen, errors = self._choosing(answers, logits, rows, drafts)
        self._meter.choose += self._meter.now() - begun
        gained = 0
        for (sequence, _, guesses), tokens, error in zip(ready, chosen, errors, strict=True):
            if guesses:
                count_guesses(answer_of(sequence), guesses, max(0, len(tokens) - 1))
            gained += self._take(sequence, tokens, error, now)
        return gained

    def _take(
        self, sequence: Sequence, tokens: list[int], error: OverclockError | None, now: float
    ) -> int:
        """Give a request its tokens; how many it took before its end."""
        answer = answer_of(sequence)
        text = ""
        taken = 0
        begun = self._meter.now() if self._meter.is_on else 0.0
        for token in tokens:
            taken += 1
            text += answer.take(token, ahead=len(tokens) - taken)
            sequence.tokens.append(token)
            if answer.finish is not None:
                break
        if self._meter.is_on:
            self._meter.text += self._meter.now() - begun
        if taken:
            self._note(sequence, answer, tokens[:taken], now)
        if taken > 1:
            sequence.computed += taken - 1
        if taken > 1 or not sequence.computed % PAGE_TOKENS:
            self._roster.settle(sequence)
        if answer.finish is None and error is None and not answer.request.stream:
            return taken
        piece = Piece(text, None, tuple(tokens[:taken]))
        if answer.finish is not None:  # before an error in a row behind the end, which is nobody's
            self._roster.end(sequence, answer.finish, None, piece)
        elif error is not None:
            self._roster.end(sequence, "error", error, piece)
        else:
            self._roster.events.append(Event(sequence.ticket, piece, False))
        return taken

    def _note(self, sequence: Sequence, answer: Answer, tokens: list[int], now: float) -> None:
        if sequence.first_token is None:
            sequence.first_token = now
            start_lookup(sequence)
        else:
            note(answer, tokens)
        sequence.last_token = now
