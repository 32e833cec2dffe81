"""Runs a batch: reads ahead as far as the models have room, and writes answers as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter

from overclock.batch.journal import Files, Journal
from overclock.batch.lanes import (
    Arrival,
    Arrivals,
    Job,
    Lane,
    Outcome,
    TextLane,
    VectorLane,
)
from overclock.batch.lines import Line, describe, read_lines
from overclock.clock.settings import ClockSettings
from overclock.encoder import Encoder
from overclock.engine import LLM
from overclock.openai.embeddings import EmbeddingRequest
from overclock.openai.endpoints import Body, parse
from overclock.openai.errors import ApiError


def throughput(streams: int) -> ClockSettings:
    """How a clock is set when nobody watches: all that counts is how much is done in the end."""
    return ClockSettings(streams=streams, stretch=None)


@dataclass(slots=True)
class Tally:
    """How far a batch is.

    lines: in the file, without empty ones; answered, failed: lines that are done, with those of an
    earlier process; resumed: how many of them are of an earlier one; prompt_tokens,
    completion_tokens: of this process; seconds: since its first line was handed in
    """

    lines: int
    answered: int = 0
    failed: int = 0
    resumed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Lines that need nothing more."""
        return self.answered + self.failed

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens generated in a second, by all streams together; None if there were none."""
        if not self.completion_tokens:
            return None
        return self.completion_tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Models:
    """What answers; opened when the first line needs it.

    max_tokens: of chats that do not say; None for as many as the context holds
    """

    llm: Callable[[], LLM]
    encoder: Callable[[], Encoder]
    max_tokens: int | None = None


def run_batch(
    files: Files,
    models: Models,
    settings: Mapping[str, object],
    *,
    restart: bool = False,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Answer all lines of a batch file that are not answered yet.

    Lines that are broken or cannot be answered go to the file of errors, with their numbers; it is
    only there if there are any. Answers are in the order in which they were done.

    settings: what must be the same if the batch is to be gone on with: the models' names …
    restart: begin anew, over whatever is there

    Raises InputError if the output is there already, another process works on it, or the batch that
    was begun is another one; OverclockError if a model cannot be opened or its machine breaks: what
    is done stays, and the next call goes on from there.
    """
    described = describe(files.input)
    header = {"input": described, "errors": str(files.errors.resolve()), **settings}
    with Journal(files, header, restart=restart) as journal:
        batch = _Batch(journal, models, Tally(described.lines), progress)
        try:
            batch.run(read_lines(files.input))
        finally:
            batch.close()
        journal.finish()
    return batch.tally


class _Batch:
    """One batch at work, in one thread; the models have theirs."""

    def __init__(
        self, journal: Journal, models: Models, tally: Tally, progress: Callable[[Tally], None]
    ) -> None:
        self.tally = tally
        self._journal = journal
        self._models = models
        self._progress = progress
        self._arrivals: Arrivals = SimpleQueue()
        self._submitted = 0
        self._arrived = 0
        self._text_lane: TextLane | None = None
        self._vector_lane: VectorLane | None = None
        self._started: float | None = None

    def run(self, lines: Iterable[Line]) -> None:
        """Answer those lines that are not done yet."""
        count = 0
        for line in lines:
            count += 1
            if line.number in self._journal.failed:
                self._resume(failed=1)
            elif line.error is None and line.custom_id in self._journal.answered:
                self._resume(answered=1)
            else:
                self._begin(line)
        self.tally.lines = count
        while self._arrived < self._submitted:
            self._settle(self._arrivals.get())

    def close(self) -> None:
        """Close the models that were opened."""
        for lane in (self._text_lane, self._vector_lane):
            if lane is not None:
                lane.close()

    def _resume(self, *, answered: int = 0, failed: int = 0) -> None:
        self.tally.answered += answered
        self.tally.failed += failed
        self.tally.resumed += 1

    def _begin(self, line: Line) -> None:
        """Hand a line in, as soon as there is room for more."""
        job = None
        try:
            if line.error is not None:
                raise line.error
            body = parse(line.url, line.body)
            job = Job(line, body, self._lane(body))
            self._hand_in(job)
        except ApiError as error:
            if job is not None:
                job.failed = True
            self._note(Outcome(line, error=error))

    def _hand_in(self, job: Job) -> None:
        if self._started is None:
            self._started = perf_counter()
        for _ in job.lane.steps(job):
            self._submitted += 1
            while not (job.lane.has_room() and self._arrivals.empty()):
                self._settle(self._arrivals.get())

    def _settle(self, arrival: Arrival) -> None:
        self._arrived += 1
        outcome = arrival.job.lane.take(arrival)
        if outcome is not None:
            arrival.job.failed = outcome.error is not None
            self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        """Write how a line ended."""
        tally = self.tally
        if outcome.body is not None:
            self._journal.answer(outcome.line, outcome.body)
            tally.answered += 1
        else:
            assert outcome.error is not None
            self._journal.fail(outcome.line, outcome.error)
            tally.failed += 1
        tally.prompt_tokens += outcome.prompt_tokens
        tally.completion_tokens += outcome.completion_tokens
        if self._started is not None:
            tally.seconds = perf_counter() - self._started
        self._progress(tally)

    def _lane(self, body: Body) -> Lane:
        """The lane of a body, whose model is opened now if it is the first."""
        if isinstance(body, EmbeddingRequest):
            if self._vector_lane is None:
                self._vector_lane = VectorLane(self._models.encoder(), self._arrivals)
            return self._vector_lane
        if self._text_lane is None:
            llm = self._models.llm()
            self._text_lane = TextLane(llm, self._arrivals, self._models.max_tokens)
        return self._text_lane
