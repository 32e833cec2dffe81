"""The clock of a language model: every tick fetches, decodes, executes and writes back."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.clock.answer import Answer
from overclock.clock.choosing import Choosing, Choosy
from overclock.clock.decode import Decode
from overclock.clock.draft_model import DraftModel
from overclock.clock.execute import Execute
from overclock.clock.fetch import Fetch, Inbox
from overclock.clock.guess import Guesser
from overclock.clock.pace import Pace
from overclock.clock.pages import Pages
from overclock.clock.request import Encode, Generate, Request
from overclock.clock.roster import Event, Roster, Slots
from overclock.clock.sequence import OPEN_WORLD, Sequence, Ticket
from overclock.clock.settings import ClockSettings
from overclock.clock.texts import DecodeTexts, WriteTexts
from overclock.clock.time import RealTime, Time
from overclock.clock.work import Work
from overclock.clock.writeback import WriteBack
from overclock.errors import InputError, MachineError, OverloadError
from overclock.machine.computer import resident_bytes
from overclock.machine.machine import Machine
from overclock.program.program import PAGE_TOKENS, Program
from overclock.trace.record import Meter, Observer, TickDetail, TickRecord, detail_of

DecodeStage: TypeAlias = Callable[[float], Work | None]
WriteBackStage: TypeAlias = Callable[
    [Work, NDArray[np.float32], dict[Sequence, MachineError], float], int
]

EMPTY: NDArray[np.float32] = np.zeros((0, 0), np.float32)

MEMORY_EVERY = 64
"""Ticks that are watched between two looks at how much memory this process has."""

FIRST_PATIENCE_S = 1.0
"""What a refused request is told to wait for as long as none has ended yet."""


class Clock:
    """Runs many requests on one machine. One thread ticks; any thread may submit and cancel."""

    def __init__(
        self,
        machine: Machine,
        program: Program,
        pages: int,
        *,
        context: int | None = None,
        settings: ClockSettings | None = None,
        time: Time | None = None,
        load_s: float = 0.0,
        draft: Machine | None = None,
        choosing: Choosy | None = None,
    ) -> None:
        """Take a machine that has loaded `program` with `pages` KV pages.

        context: most tokens of a request; None for what the program and the pages allow
        draft: a machine with a small model of the same vocabulary and as many pages, that guesses
        load_s: what it took to get here, for the timing of every answer
        choosing: how tokens are chosen; None for what each request's sampling says
        """
        self.settings = settings or ClockSettings()
        self.pages = Pages(pages, share=self.settings.share_prefixes)
        self.pace = Pace()
        self.last: TickRecord | None = None
        self._time = time or RealTime()
        self._machine = machine
        self._inbox = Inbox()
        self._vocabulary = program.vocabulary
        self._keeps_kv = bool(program.caches)
        self._context = program.context if context is None else context
        if self._keeps_kv:
            self._context = min(self._context, pages * PAGE_TOKENS)
        row = -(-self._context // PAGE_TOKENS)
        self.roster = Roster(self.pages, Slots(self.settings.streams, row), self._time.now, load_s)
        self._fetch = Fetch(self._inbox, self.roster, self.settings.aging_s)
        self._observers: list[Observer] = []
        self._failed: dict[int, Exception] = {}  # what an observer raised, by its identity
        self._memory = self._details = 0
        self._meter = Meter(self._time.now)
        self._draft = None if draft is None else DraftModel(draft, self._time)
        self._execute = Execute(machine, self._draft)
        self._decode, self._write_back = self._stages(program, choosing)
        self._busy_s = 0.0  # of all ticks

    def _stages(
        self, program: Program, choosing: Choosy | None
    ) -> tuple[DecodeStage, WriteBackStage]:
        """The two stages that differ between programs that keep KV and those that do not."""
        if not program.caches:
            texts = DecodeTexts(self.roster, program, self.settings.tick_tokens)
            return texts, WriteTexts(self.roster)
        guesser = Guesser(
            self.pace, self.settings.draft_tokens, self.roster.slots.table, self._draft
        )
        decode = Decode(
            self.roster, self.pace, guesser, self._copy_page, self.settings, program.vocabulary
        )
        return decode, WriteBack(self.roster, choosing or Choosing(self._machine), self._meter)

    @property
    def context(self) -> int:
        """Most tokens that a request can have in KV pages."""
        return self._context

    @property
    def is_busy(self) -> bool:
        """Whether a tick would have something to do."""
        roster, inbox = self.roster, self._inbox
        return bool(
            roster.running
            or roster.waiting
            or roster.events
            or inbox.arrivals
            or inbox.cancellations
        )

    @property
    def waiting(self) -> int:
        """Requests that hold no KV pages yet."""
        return len(self.roster.waiting) + len(self._inbox.arrivals)

    def submit(self, request: Request) -> Ticket:
        """Hand a request in. It is looked at when the next tick begins.

        Raises InputError if it can never fit, OverloadError if too many wait already.
        """
        self._check(request)
        if self.waiting >= self.settings.queue + self.settings.streams - self.roster.running:
            patience = self.patience_s()
            raise OverloadError(
                f"{self.waiting} requests wait already; try again in {patience:.1f} s", patience
            )
        answer = self._answer(request) if isinstance(request, Generate) else None
        ticket = Ticket(request, answer, self._time.now())
        self._inbox.arrivals.append(ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody wants a request any more. Nothing happens if it has ended."""
        self._inbox.cancellations.append(ticket)

    def patience_s(self) -> float:
        """In how many seconds the queue should be shorter by half, at the speed so far.

        Only ticks count: a clock that had nothing to do was not slow.
        """
        ended = self.roster.ended
        if not ended:
            return FIRST_PATIENCE_S
        return max(0.1, self._busy_s / ended * max(1, self.waiting) / 2)

    def tick(self) -> list[Event]:
        """Do the next thing that there is to do; what came of it."""
        now = self._time.now
        started = now()
        self._fetch(started)
        fetched = now()
        work = self._decode(fetched)
        decoded = now()
        logits, failed = (EMPTY, {}) if work is None else self._execute(work)
        executed = now()
        tokens = 0 if work is None else self._write_back(work, logits, failed, executed)
        events = self._take_events()
        self._note(work, (started, fetched, decoded, executed, now()), tokens)
        return events

    def watch(self, observer: Observer) -> None:
        """Tell `observer` of every tick and request from the next tick on.

        Like a tick, this and `unwatch` may not happen while another thread ticks.
        """
        self._failed.pop(id(observer), None)
        self._observers.append(observer)
        self._observe()

    def unwatch(self, observer: Observer) -> None:
        """Tell it nothing more. Raises what the observer itself has raised, if it did."""
        error = self._failed.pop(id(observer), None)
        if error is not None:
            raise error
        self._observers.remove(observer)
        self._observe()

    def read_prefix(self, tokens: Row[int]) -> NDArray[np.uint8] | None:
        """The KV pages that `tokens` stand in, ``u8[pages, page_bytes]``; None if not all do.

        Like a tick, this may not happen while another thread ticks.
        """
        match = self.pages.find(OPEN_WORLD, tokens, len(tokens))
        if match.tokens < len(tokens):
            return None
        nodes = [*match.nodes, *([match.partial] if match.partial is not None else [])]
        return self._machine.read_pages([node.page for node in nodes])

    def write_prefix(self, tokens: Row[int], pages: NDArray[np.uint8]) -> bool:
        """Put KV pages ``u8[pages, page_bytes]`` of `tokens` where requests find them.

        False if there is no room for them now. Like a tick, this may not happen while another
        thread ticks.
        """
        match = replace(self.pages.find(OPEN_WORLD, tokens, len(tokens)), partial=None, common=0)
        known = len(match.nodes)
        holding = self.pages.open(OPEN_WORLD, match, len(pages) - known)
        if holding is None:
            return False
        self._machine.write_pages(holding.own, pages[known:])
        self.pages.announce(holding, tokens[known * PAGE_TOKENS :])
        self.pages.computed(holding, len(tokens))
        self.pages.release(holding, tokens[len(holding.nodes) * PAGE_TOKENS :])
        return True

    def check_integrity(self) -> None:
        """Prove that every page and slot has one place; AssertionError says what is wrong."""
        sequences = list(self.roster)
        holdings = [each.holding for each in sequences if each.holding is not None]
        self.pages.check_integrity(holdings)
        slots = [each.slot for each in sequences if each.slot is not None]
        assert sorted(slots + self.roster.slots.free) == list(range(self.settings.streams))
        for sequence in sequences:
            runs = sequence not in self.roster.waiting
            assert runs == (sequence.slot is not None) == (sequence.holding is not None)
            if sequence.holding is not None:
                row = self.roster.slots.table[sequence.slot]
                pages = sequence.holding.pages
                assert row[: len(pages)].tolist() == pages, "a table shows other pages than held"
                assert sequence.computed <= PAGE_TOKENS * len(pages), "tokens stand in no page"

    def _observe(self) -> None:
        wanted = any(observer.wants_detail for observer in self._observers)
        self._machine.watch(wanted)
        self._machine.counters()  # what was before is nobody's
        self._meter.take()
        self._meter.is_on = wanted
        self.roster.requests = [] if self._observers else None

    def _check(self, request: Request) -> None:
        if isinstance(request, Encode) == self._keeps_kv:
            wanted = "an Encoder" if self._keeps_kv else "an LLM"
            raise InputError(f"this program cannot run such a request; open {wanted} for it")
        size = len(request.token_ids)
        longest = size + (request.max_tokens - 1 if isinstance(request, Generate) else 0)
        if not size or longest > self._context:
            raise InputError(
                f"a request of {size} tokens and {longest - size} to run after them can never "
                f"fit: there is room for 1 to {self._context}"
            )

    def _answer(self, request: Generate) -> Answer:
        try:
            return Answer(request, self._vocabulary)
        except ValueError as error:
            raise InputError(f"the request cannot be sampled: {error}") from error

    def _take_events(self) -> list[Event]:
        events, self.roster.events = self.roster.events, []
        for event in events:
            if event.last:
                self._fetch.forget(event.ticket)
        return events

    def _note(self, work: Work | None, times: Row[float], tokens: int) -> None:
        started, fetched, decoded, executed, written = times
        rows = 0 if work is None else len(work.batch.token_ids)
        prompts = 0 if work is None else work.prompt_tokens
        if work is not None:
            self.pace.observe(rows - prompts, prompts, written - started)
        self.last = TickRecord(
            started=started,
            fetch=fetched - started,
            decode=decoded - fetched,
            execute=executed - decoded,
            write_back=written - executed,
            rows=rows,
            prompt_tokens=prompts,
            drafts=0 if work is None else work.drafts,
            tokens=tokens,
            running=self.roster.running,
            waiting=len(self.roster.waiting),
            cached_pages=self.pages.cached,
            used_pages=self.pages.count - self.pages.available,
            detail=self._detail(work) if self._meter.is_on and work is not None else None,
        )
        self._busy_s += self.last.seconds
        if self._observers:
            self._tell(self.last)

    def _detail(self, work: Work) -> TickDetail:
        if not self._details % MEMORY_EVERY:  # to ask the system costs more than all the rest
            self._memory = resident_bytes()
        self._details += 1
        return detail_of(work.batch, self._machine.counters(), self._meter, self._memory)

    def _tell(self, record: TickRecord) -> None:
        ended, self.roster.requests = self.roster.requests or [], []
        for observer in list(self._observers):
            try:
                observer.tick(record)
                for request in ended:
                    observer.request(request)
            except Exception as error:  # noqa: BLE001 - who watches must not harm who is served
                self.unwatch(observer)
                self._failed[id(observer)] = error

    def _copy_page(self, source: int, target: int) -> None:
        self._machine.copy_pages([source], [target])
        if self._draft is not None:
            self._draft.copy_page(source, target)
