"""The models that answer lines, each with a bounded number of requests on their way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.batch.lines import Line
from overclock.clock.completion import Completion, Piece
from overclock.clock.request import Generate
from overclock.clock.roster import Event
from overclock.encoder import Encoder
from overclock.engine import LLM
from overclock.errors import InputError, MachineError
from overclock.openai.answers import Answers
from overclock.openai.chat import ChatRequest
from overclock.openai.completions import TextRequest
from overclock.openai.embeddings import EmbeddingRequest, check_width, embedding_list
from overclock.openai.endpoints import Body
from overclock.openai.errors import ApiError, api_error

MOST_TEXTS = 1024
"""Texts to embed that are on their way; a line may bring more if it is alone."""


@dataclass(slots=True)
class Job:
    """A line on its way.

    found: what came back, by the number of its request; failed: it has ended with an error, and
    what still comes back is for nobody
    """

    line: Line
    body: Body
    lane: Lane
    found: dict[int, Completion] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a line's texts were embedded to, ``f32[n, D]``, and how many tokens they had."""

    values: NDArray[np.float32]
    tokens: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that came back for a job: what, and for which of its requests."""

    job: Job
    place: int
    content: Completion | Vectors | Exception


Arrivals: TypeAlias = "SimpleQueue[Arrival]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a line ended: with the body of its answer, or with an error."""

    line: Line
    body: Mapping[str, object] | None = None
    error: ApiError | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Lane(Protocol):
    """A model with what is on its way to it. All but what it runs happens in one thread."""

    def has_room(self) -> bool:
        """Whether more should be handed in."""
        ...

    def steps(self, job: Job) -> Iterator[None]:
        """Hand in the requests of a job, one a step. Raises ApiError for what cannot be asked."""
        ...

    def take(self, arrival: Arrival) -> Outcome | None:
        """How a line ended, if this was the last of it.

        Raises OverclockError if no more lines can be answered.
        """
        ...

    def close(self) -> None:
        """Take nothing any more."""
        ...


class TextLane:
    """A language model that is kept full."""

    def __init__(self, llm: LLM, arrivals: Arrivals, max_tokens: int | None = None) -> None:
        """`max_tokens` of chats that do not say."""
        self._answers = Answers(llm, max_tokens=max_tokens)
        self._llm = llm
        self._arrivals = arrivals
        self._on_their_way = 0
        # Some wait, so that whoever ends is followed by another in the next tick.
        streams, queue = llm.settings.streams, llm.settings.queue
        self._most = streams + min(queue, 8 + streams // 4)

    def has_room(self) -> bool:
        """Whether more should be handed in."""
        return self._on_their_way < self._most

    def steps(self, job: Job) -> Iterator[None]:
        """Hand in the requests of a job, one a step."""
        assert isinstance(job.body, ChatRequest | TextRequest)
        if job.body.ask.stream:
            raise ApiError("a batch does not stream; leave stream out", param="stream")
        for place, request in enumerate(self._answers.requests(job.body)):
            self._submit(job, place, request)
            yield

    def _submit(self, job: Job, place: int, request: Generate) -> None:
        def deliver(event: Event) -> None:
            assert isinstance(event.content, Piece)
            if event.content.completion is not None:
                self._arrivals.put(Arrival(job, place, event.content.completion))

        self._llm.driver.submit(request, deliver)
        self._on_their_way += 1

    def take(self, arrival: Arrival) -> Outcome | None:
        """How a line ended, if this was the last of it."""
        job, answer = arrival.job, arrival.content
        assert isinstance(job.body, ChatRequest | TextRequest)
        assert isinstance(answer, Completion)
        self._on_their_way -= 1
        if job.failed:
            return None
        if answer.error is not None:
            return _failed(job.line, answer.error)
        job.found[arrival.place] = answer
        if len(job.found) < job.body.total:
            return None
        body = self._answers.answer(job.body, [job.found[place] for place in range(len(job.found))])
        usage = body["usage"]
        return Outcome(job.line, body, None, usage["prompt_tokens"], usage["completion_tokens"])

    def close(self) -> None:
        """Take nothing any more."""
        self._llm.close()


class _Texts(NamedTuple):
    """The texts of a job."""

    job: Job
    texts: list[str]


class VectorLane:
    """An encoder with a thread that gives it whatever texts wait, together."""

    def __init__(self, encoder: Encoder, arrivals: Arrivals) -> None:
        self._encoder = encoder
        self._arrivals = arrivals
        self._texts = 0
        self._waiting: SimpleQueue[_Texts | None] = SimpleQueue()
        Thread(target=self._run, name="overclock-vectors", daemon=True).start()

    def has_room(self) -> bool:
        """Whether more should be handed in."""
        return self._texts < MOST_TEXTS

    def steps(self, job: Job) -> Iterator[None]:
        """Hand in the texts of a job, in one step."""
        assert isinstance(job.body, EmbeddingRequest)
        check_width(job.body, self._encoder.width)
        self._texts += len(job.body.texts)
        self._waiting.put(_Texts(job, job.body.texts))
        yield

    def take(self, arrival: Arrival) -> Outcome | None:
        """How a line ended."""
        body, found, line = arrival.job.body, arrival.content, arrival.job.line
        assert isinstance(body, EmbeddingRequest)
        self._texts -= len(body.texts)
        if isinstance(found, Exception):
            return _failed(line, found)
        assert isinstance(found, Vectors)
        name = self._encoder.model.name
        answer = embedding_list(body, found.values, found.tokens, name)
        return Outcome(line, answer, None, found.tokens)

    def close(self) -> None:
        """Take nothing any more."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            while not self._waiting.empty() and (more := self._waiting.get()) is not None:
                group.append(more)
            self._embed(group)
        self._encoder.close()

    def _embed(self, group: list[_Texts]) -> None:
        """Embed the texts of several jobs together."""
        texts = [text for each in group for text in each.texts]
        try:
            counts = [len(ids) for ids in self._encoder.encode(texts)]
            rows = self._encoder.embed(texts)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._part(group, error)
            return
        first = 0
        for each in group:
            last = first + len(each.texts)
            found = Vectors(rows[first:last], sum(counts[first:last]))
            self._arrivals.put(Arrival(each.job, 0, found))
            first = last

    def _part(self, group: list[_Texts], error: Exception) -> None:
        """Embed one by one, so that only those fail whose fault it is."""
        if len(group) == 1:
            self._arrivals.put(Arrival(group[0].job, 0, error))
            return
        for each in group:
            self._embed([each])


def _failed(line: Line, error: Exception) -> Outcome:
    """A line that failed by itself; anything else would fail all that follow, and is raised."""
    if isinstance(error, InputError | MachineError | ApiError):
        return Outcome(line, error=api_error(error))
    raise error
