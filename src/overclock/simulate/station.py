"""One clock with its virtual machine and its own time, and what is noted of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import inf

from overclock.clock.answer import Answer
from overclock.clock.clock import Clock
from overclock.clock.completion import Completion, FinishReason, Piece
from overclock.clock.request import Generate
from overclock.clock.roster import Event
from overclock.clock.sequence import Ticket
from overclock.clock.settings import ClockSettings
from overclock.clock.time import VirtualTime
from overclock.errors import OverloadError
from overclock.program.program import KvFormat, Program
from overclock.simulate.machine import Chooser, TempoMachine
from overclock.simulate.measure import Steps
from overclock.simulate.tempo import Tempo
from overclock.simulate.workload import Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a load is simulated on. The names are those of `Clock` and `LLM`."""

    program: Program
    tempo: Tempo
    pages: int
    context: int
    settings: ClockSettings = field(default_factory=ClockSettings)
    kv: KvFormat = "f16"
    leaps: bool = True


@dataclass(frozen=True, slots=True)
class Served:
    """A request that has ended. Times are in seconds since the beginning.

    first: when its first token came; None if none did
    admitted: when it got its KV pages
    cached: tokens of its prompt that were in KV pages already
    """

    arrival: Arrival
    admitted: float
    first: float | None
    ended: float
    tokens: int
    cached: int
    finish: FinishReason


def fit(arrival: Arrival, context: int) -> Arrival:
    """The request itself, or what of it a context of so many tokens has room for."""
    # The last token of an answer needs no room: it is never run.
    if arrival.prompt + arrival.output - 1 <= context:
        return arrival
    prompt = min(arrival.prompt, context)
    shared = min(arrival.prefix_tokens, prompt)
    output = min(arrival.output, context - prompt + 1)
    return replace(arrival, prompt=prompt, prefix_tokens=shared, output=output)


class Prompts:
    """Token ids for requests: no two begin alike unless they share a prefix."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._groups: dict[str, int] = {}
        self._count = 0

    def ids(self, arrival: Arrival) -> list[int]:
        """The tokens of one more request."""
        own = self._unlike(self._count, arrival.prompt - arrival.prefix_tokens)
        self._count += 1
        if arrival.prefix is None:
            return own
        group = self._groups.setdefault(arrival.prefix, len(self._groups))
        return self._unlike(group, arrival.prefix_tokens) + own

    def _unlike(self, number: int, size: int) -> list[int]:
        """Tokens of which the first ones spell `number`; its last digit comes first."""
        high, low = divmod(number, self._vocabulary)
        return ([low, high % self._vocabulary] + [0] * (size - 2))[:size]


class Log:
    """What happened at a server with so many KV pages.

    gaps: seconds between a token and the next one of the same request; `times` says of each how
        many requests had it
    pages: KV pages that requests hold
    """

    def __init__(self, page_count: int) -> None:
        self.page_count = page_count
        self.served: list[Served] = []
        self.refused: list[Arrival] = []
        self.gaps: list[float] = []
        self.times: list[int] = []
        self.pages = Steps()
        self.cut = 0  # requests that were longer than the context
        self.preempted = 0
        self.busy = 0.0
        self.ticks = 0

    def gap(self, seconds: float, requests: int) -> None:
        """So many requests have waited so long for their next token."""
        if requests:
            self.gaps.append(seconds)
            self.times.append(requests)


class Station:
    """A server of requests: it has a time of its own, which goes on as it ticks."""

    def __init__(self, setup: Setup) -> None:
        self.log = Log(setup.pages)
        self.time = VirtualTime()
        self._setup = setup
        self._machine = TempoMachine(setup.tempo, setup.kv, self.time, setup.leaps)
        self._machine.load(setup.program, {}, pages=setup.pages)
        self.clock = Clock(
            self._machine,
            setup.program,
            setup.pages,
            context=setup.context,
            settings=replace(setup.settings, draft_tokens=0),  # nothing here could be guessed
            time=self.time,
            choosing=Chooser(self._machine),
        )
        self._machine.attach(self.clock.roster)
        self._prompts = Prompts(setup.program.vocabulary)
        self._open: dict[Ticket, Arrival] = {}
        self._deadlines: list[float] = []
        self._lost: dict[
            Answer | None, float
        ] = {}  # whose pages were taken: when its last token came

    @property
    def load(self) -> int:
        """Requests that are here."""
        return len(self._open)

    @property
    def due(self) -> float:
        """When the next tick begins; infinite if there is nothing to do."""
        return self.time.now() if self.clock.is_busy else inf

    def submit(self, arrival: Arrival) -> bool:
        """Take a request in, whose time has come; False if too many wait."""
        if not self.clock.is_busy:
            self.time.advance(max(0.0, arrival.at - self.time.now()))
        request = self._request(arrival)
        try:
            ticket = self.clock.submit(request)
        except OverloadError:
            self.log.refused.append(arrival)
            return False
        ticket.arrived = arrival.at  # it came while a tick was under way
        self._open[ticket] = arrival
        self._machine.delay += self._setup.tempo.admission(len(request.token_ids))
        if arrival.deadline_s is not None:
            heappush(self._deadlines, arrival.at + arrival.deadline_s)
        return True

    def tick(self, until: float) -> list[Served]:
        """One tick, or several of which the last is not over before `until`; who has ended."""
        started = self.time.now()
        while self._deadlines and self._deadlines[0] <= started:
            heappop(self._deadlines)
        self._machine.until = min(until, self._deadlines[0]) if self._deadlines else until
        self._machine.generating, self._machine.rest = 0, []
        events = self.clock.tick()
        self._note(started)
        late = [self._serve(event) for event in events if not _is_whole(event)]
        self._catch_up()
        served = late + [self._serve(event) for event in events if _is_whole(event)]
        self.log.served += served
        return served

    def _note(self, started: float) -> None:
        """The first tick is over."""
        now, log, last = self.time.now(), self.log, self.clock.last
        assert last is not None
        log.gap(now - started, self._machine.generating)
        log.pages.note(now, last.used_pages)
        log.busy += now - started
        log.ticks += now > started
        if self.clock.roster.preempted != log.preempted or self._lost:
            self._follow_lost(started, now)

    def _catch_up(self) -> None:
        """Let the time of the other ticks pass, as the clock would have seen it pass."""
        rest, log = self._machine.rest, self.log
        for seconds in rest:
            before = self.time.now()
            self.time.advance(seconds)
            spent = self.time.now() - before
            self.clock.pace.observe(self._machine.generating, 0, spent)
            log.gap(spent, self._machine.generating)
            log.busy += spent
        if rest:
            log.ticks += len(rest)
            self.clock.roster.version += 1  # all have gone on further than the last batch knows

    def _follow_lost(self, started: float, now: float) -> None:
        """Requests whose pages were taken: the gap until their next token is a long one."""
        roster = self.clock.roster
        self.log.preempted = roster.preempted
        for sequence in roster.waiting:
            if sequence.answer is not None and sequence.answer.tokens:
                self._lost.setdefault(sequence.answer, started)
        for sequence in roster.generating:
            if sequence.answer in self._lost:
                self.log.gap(now - self._lost.pop(sequence.answer), 1)

    def _request(self, arrival: Arrival) -> Generate:
        """What is asked of the clock; cut to what its context has room for."""
        fitted = fit(arrival, self.clock.context)
        self.log.cut += fitted is not arrival
        return Generate(
            token_ids=self._prompts.ids(fitted),
            max_tokens=fitted.output,
            speculation="off",
            priority=arrival.priority,
            deadline_s=arrival.deadline_s,
        )

    def _serve(self, event: Event) -> Served:
        """A request ends now."""
        arrival = self._open.pop(event.ticket)
        completion = _completion(event)
        first = completion.timing.first_token_s
        lost = self._lost.pop(event.ticket.answer, None) if self._lost else None
        if lost is not None and completion.finish_reason == "length":
            self.log.gap(self.time.now() - lost, 1)
        return Served(
            arrival,
            admitted=arrival.at + completion.timing.queue_s,
            first=None if first is None else arrival.at + first,
            ended=self.time.now(),
            tokens=len(completion.token_ids),
            cached=completion.usage.cached_tokens,
            finish=completion.finish_reason,
        )


def _completion(event: Event) -> Completion:
    assert isinstance(event.content, Piece)
    assert event.content.completion is not None
    return event.content.completion


def _is_whole(event: Event) -> bool:
    return _completion(event).finish_reason == "length"
