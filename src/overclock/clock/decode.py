"""Second stage of a tick: who runs, with how many tokens, in which pages, laid out as a batch."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import replace
from enum import Enum, auto

from overclock.clock.guess import Guesser
from overclock.clock.layout import Layout
from overclock.clock.pace import Pace
from overclock.clock.request import Generate
from overclock.clock.roster import Roster
from overclock.clock.sequence import Sequence, wants_all
from overclock.clock.settings import ClockSettings
from overclock.clock.work import Part, Work
from overclock.program.program import PAGE_TOKENS

MOST_PROMPTS = 8
"""Requests that are in their prompts at once; the next come when one is through."""

WORTH_WAITING = 16
"""A request waits for another one to compute a common prefix that saves it so many tokens."""

MOST_PASSED = 16
"""Requests in the queue that others may pass in a tick: each of them is looked up in the tree."""

LOGITS_BYTES = 64 << 20
"""Most memory that the logits of the prompts of one tick may take."""

CopyPage = Callable[[int, int], None]


class Verdict(Enum):
    """What became of a request that wanted to be let in."""

    IN = auto()
    LATER = auto()  # another one is computing its prefix
    NO_ROOM = auto()


class Decode:
    """Decides what the next tick does."""

    def __init__(
        self,
        roster: Roster,
        pace: Pace,
        guesser: Guesser,
        copy_page: CopyPage,
        settings: ClockSettings,
        vocabulary: int,
    ) -> None:
        self._roster = roster
        self._pace = pace
        self._guesser = guesser
        self._copy_page = copy_page
        self._settings = settings
        self._layout = Layout(roster)
        self._logit_rows = max(1, LOGITS_BYTES // (4 * vocabulary))

    def __call__(self, now: float) -> Work | None:
        """Run the stage at time `now`; None if there is nothing to do."""
        roster = self._roster
        guesses = self._guesser.guesses(roster.generating)
        self._make_room(guesses)
        guesses |= self._guesser.from_model(roster.generating, guesses, self._grow)
        if roster.waiting:
            self._admit(now)
        plain, parts = list(roster.generating), []
        if guesses:
            plain = [each for each in plain if each not in guesses]
            parts = [_with_guesses(each, guesses[each]) for each in guesses if each.holding]
        rows = len(plain) + sum(part.count for part in parts)
        parts += self._prompts(self._allowance(rows))
        return self._layout(plain, parts) if plain or parts else None

    def _allowance(self, rows: int) -> int:
        """How many tokens of prompts this tick takes."""
        most, stretch = self._settings.tick_tokens, self._settings.stretch
        if not rows or stretch is None or not self._roster.prompting:
            return most
        return self._pace.prompt_tokens(rows, stretch, most)

    def _make_room(self, guesses: dict[Sequence, list[int]]) -> None:
        """Give every generating request the pages that its tokens of this tick will be in.

        When there are none left, guesses are given up first; then the request that came last gives
        its pages back.
        """
        for sequence in list(self._roster.generating):
            if sequence.computed % PAGE_TOKENS and sequence not in guesses:
                continue  # its page has room
            if self._grow(sequence, 1 + len(guesses.get(sequence, ()))):
                continue
            guesses.pop(sequence, None)
            while not self._grow(sequence, 1):
                last = max((*self._roster.generating, *self._roster.prompting), key=_key)
                guesses.pop(last, None)
                self._roster.preempt(last)

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Have pages for so many more tokens; False if too few are left. Who waits needs none."""
        holding = sequence.holding
        if holding is None:
            return True
        have = len(holding.nodes) + len(holding.own)
        missing = -(-(sequence.computed + tokens) // PAGE_TOKENS) - have
        if missing <= 0:
            return True
        if not self._roster.pages.add(holding, missing):
            return False
        self._roster.show_pages(sequence, have)
        return True

    def _admit(self, now: float) -> None:
        """Let in who waits, in order, as long as there are slots and pages.

        A request that waits for a prefix which is being computed lets others pass.
        """
        roster = self._roster
        at = 0
        while at < min(len(roster.waiting), MOST_PASSED) and roster.slots.free:
            if len(roster.prompting) >= MOST_PROMPTS:
                return
            match self._try(roster.waiting[at], now):
                case Verdict.IN:
                    roster.prompting.append(roster.waiting.pop(at))
                case Verdict.LATER:
                    at += 1
                case Verdict.NO_ROOM:
                    return

    def _try(self, sequence: Sequence, now: float) -> Verdict:
        """Give a request pages, if there are enough and nobody is computing some of them."""
        pages, world = self._roster.pages, sequence.world
        match = pages.find(world, sequence.tokens, _reusable(sequence))
        if match.waiting >= WORTH_WAITING:
            return Verdict.LATER
        for each in (match, replace(match, partial=None, common=0)):
            count = -(-len(sequence.tokens) // PAGE_TOKENS) - len(each.nodes)
            # Whoever generates may want a page soon: one each is left to them.
            if pages.available - self._roster.running < count and self._roster.running:
                continue
            holding = pages.open(world, each, count)
            if holding is not None:
                break
        else:
            return Verdict.NO_ROOM
        if each.partial is not None:
            self._copy_page(each.partial.page, holding.own[0])
        self._place(sequence, each.tokens, now)
        sequence.holding = holding
        pages.announce(holding, sequence.tokens[PAGE_TOKENS * len(holding.nodes) :])
        self._roster.show_pages(sequence)
        return Verdict.IN

    def _place(self, sequence: Sequence, cached: int, now: float) -> None:
        sequence.slot = self._roster.slots.free.pop()
        sequence.computed = cached
        if sequence.admitted is None:
            sequence.admitted = now
            sequence.cached = cached

    def _prompts(self, allowance: int) -> list[Part]:
        """Share the tick's prompt tokens out.

        The oldest gets half, so that a long prompt ends in time; the shortest get the rest, so that
        a short one does not wait for it.
        """
        prompts = sorted(self._roster.prompting, key=lambda each: each.key)
        if not prompts:
            return []
        shares = dict.fromkeys(prompts, 0)
        oldest = prompts[0]
        half = allowance if len(prompts) == 1 else -(-allowance // 2)
        shares[oldest] = min(half, oldest.left)
        room = allowance - shares[oldest]
        for sequence in (*sorted(prompts[1:], key=lambda each: each.left), oldest):
            more = min(room, sequence.left - shares[sequence])
            shares[sequence] += more
            room -= more
        return self._with_outputs([(each, count) for each, count in shares.items() if count])

    def _with_outputs(self, shares: Row[tuple[Sequence, int]]) -> list[Part]:
        """Say which rows are wanted, and cut where their logits would take too much memory."""
        parts: list[Part] = []
        rows = self._logit_rows
        for sequence, count in shares:
            if wants_all(sequence):
                count = min(count, rows)
                outputs = count
            else:
                outputs = int(count == sequence.left)
            if count:
                parts.append(Part(sequence, count, outputs))
                rows = max(0, rows - outputs)
        return parts


def _with_guesses(sequence: Sequence, guesses: list[int]) -> Part:
    count = 1 + len(guesses)
    return Part(sequence, count, count, drafts=guesses)


def _key(sequence: Sequence) -> tuple[float, int]:
    return sequence.key


def _reusable(sequence: Sequence) -> int:
    """How many tokens may come from KV pages: the logits of all behind them are wanted."""
    if wants_all(sequence):
        return min(sequence.scored, len(sequence.tokens) - 1)
    request = sequence.ticket.request
    may = not isinstance(request, Generate) or request.reuse
    return len(sequence.tokens) - 1 if may else 0
