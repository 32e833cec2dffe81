"""How long a tick takes, learnt from the ticks before it.

While requests generate, a prompt is let in by as many tokens as lengthen a tick no more than
asked; and speculation asks what one row more would cost.
"""

from __future__ import annotations

from bisect import bisect_left

ANCHORS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Numbers of rows for which the time of a tick is remembered; between them it is interpolated."""

NEWS = 0.2
"""Weight of a new observation in a running mean."""

FIRST_SLOPE = 0.04
"""What one row more is taken to add to a tick, as long as nobody has seen it (a share of it)."""

LEAST_TOKENS = 2
"""A prompt goes on by as many tokens in every tick, whatever it costs the others."""

FIRST_TOKENS = 16
"""… and by as many as long as nothing is known of what they cost."""

BAD_NEWS = 0.5
"""Weight of an observation that a prompt's tokens cost more than thought: as a prompt grows they
do, and the others notice."""

ALONE = 2.0
"""A prompt's token beside others is taken to cost so many times what it does in a tick of prompts
alone, until it has been seen: a few rows use the processor less well than many."""


class Pace:
    """Running means of tick times."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # of ticks without prompts, by the anchor of rows
        self._alone: float | None = None  # seconds of a prompt's token, among many of them
        self._beside: float | None = None  # the same in a tick in which others generate
        self._has_paused = False

    def observe(self, rows: int, prompt_tokens: int, seconds: float) -> None:
        """A tick of `rows` generating rows and `prompt_tokens` of prompts took `seconds`."""
        if seconds <= 0.0:  # of a time that stood still nothing can be learnt
            return
        if not prompt_tokens:
            self._note_rows(rows, seconds)
        elif not rows:
            if prompt_tokens >= FIRST_TOKENS:  # fewer cost what one costs
                self._alone = _mean(self._alone, seconds / prompt_tokens)
        elif (base := self.seconds(rows)) is not None:
            each = max(seconds - base, 0.05 * seconds) / prompt_tokens
            known = self._beside
            weight = BAD_NEWS if known is not None and each > known else NEWS
            self._beside = _mean(known, each, weight)

    def seconds(self, rows: int) -> float | None:
        """What a tick of `rows` rows is expected to take; None before the first."""
        if not self._seconds:
            return None
        known = sorted(self._seconds)
        place = bisect_left(known, rows)
        if place < len(known) and known[place] == rows:
            return self._seconds[rows]
        if place == 0:
            return self._beyond(known[0], rows)
        if place == len(known):
            return self._beyond(known[-1], rows)
        low, high = known[place - 1], known[place]
        share = (rows - low) / (high - low)
        return self._seconds[low] * (1 - share) + self._seconds[high] * share

    def row_cost(self, rows: int, more: int) -> float:
        """Seconds that each of `more` rows would add to a tick of `rows`; 0 before the first."""
        base, longer = self.seconds(rows), self.seconds(rows + more)
        if base is None or longer is None:
            return 0.0
        return max(0.0, longer - base) / more

    def prompt_tokens(self, rows: int, stretch: float, most: int) -> int:
        """How many tokens of prompts a tick with `rows` generating rows has room for."""
        base = self.seconds(rows)
        if base is None and not self._has_paused:
            self._has_paused = True
            return 0  # one tick without prompts, to learn from
        each = self._beside
        if each is None and self._alone is not None:
            each = ALONE * self._alone
        if base is None or each is None:
            return min(most, FIRST_TOKENS)
        room = (stretch - 1.0) * base / each if each > 0.0 else float(most)
        return min(most, max(LEAST_TOKENS, int(min(room, float(most)))))

    def _note_rows(self, rows: int, seconds: float) -> None:
        """Remember at the nearest anchor what the tick would have taken there."""
        place = bisect_left(ANCHORS, rows)
        around = ANCHORS[max(0, place - 1) : place + 1] or ANCHORS[-1:]
        anchor = min(around, key=lambda each: abs(each - rows))
        expected, there = self.seconds(rows), self.seconds(anchor)
        if expected and there:
            seconds *= there / expected
        self._seconds[anchor] = _mean(self._seconds.get(anchor), seconds)

    def _beyond(self, anchor: int, rows: int) -> float:
        """Outside of what was seen: a straight line with the first slope."""
        seconds = self._seconds[anchor]
        return max(0.5 * seconds, seconds * (1.0 + FIRST_SLOPE * (rows - anchor)))


def _mean(old: float | None, new: float, weight: float = NEWS) -> float:
    return new if old is None else old + weight * (new - old)
