"""A trace as a file for the Perfetto UI: Chrome's trace-event format, in JSON.

Source: "Trace Event Format", Google, 2016. The clock is one track: a tick holds its stages, execute
holds what the core did. Requests are tracks of a second process, as few as keep them apart. Times
are whole nanoseconds while the events are laid out, so nothing overlaps by rounding; the file has
microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CLOCK, REQUESTS = 1, 2
"""The two processes."""

Record = Mapping[str, Any]
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasts: nanoseconds from the trace's begin, and what lies inside it."""

    name: str
    kind: str
    start: int
    end: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inside: Sequence[Span] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a span before it has a place: how long it takes, what it holds."""

    name: str
    kind: str
    ns: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inside: Sequence[Part] = ()


def perfetto(document: Mapping[str, Any]) -> bytes:
    """The file that the Perfetto UI opens, and chrome://tracing too."""
    events = [*_names(document), *_clock(document), *_requests(document)]
    trace = {"displayTimeUnit": "ns", "otherData": _about(document), "traceEvents": events}
    return json.dumps(trace, allow_nan=False, separators=(",", ":")).encode()


def _about(document: Record) -> dict[str, str]:
    model, machine = document["model"], document["machine"]
    return {
        "model": model["name"],
        "machine": f"{machine['name']}, {machine['threads']} threads",
        "created": document["created"],
        "overclock": document["overclock"],
    }


def _names(document: Record) -> Iterator[Event]:
    yield _named("process_name", CLOCK, 0, f"overclock: {document['model']['name']}")
    yield _named("thread_name", CLOCK, 1, "clock")
    yield _named("process_name", REQUESTS, 0, "requests")


def _named(what: str, process: int, track: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": process, "tid": track, "args": {"name": name}}


# The clock's track.


def _clock(document: Record) -> Iterator[Event]:
    free = 0
    for index, tick in enumerate(document["ticks"]):
        tree = _tick(document["instructions"], tick, index)
        span = _placed(tree, max(_ns(tick["start"]), free), None)
        free = span.end
        yield from _events(span, CLOCK, 1)
        yield from _counters(tick, span)


def _tick(instructions: Sequence[Record], tick: Record, index: int) -> Part:
    stages = [
        _stage("fetch", tick["fetch"]),
        _stage("decode", tick["decode"]),
        _stage("execute", tick["execute"], _execution(instructions, tick)),
        _stage("write back", tick["write_back"], _pieces(tick, "choose", "text")),
    ]
    shown = ("rows", "prompt_tokens", "drafts", "tokens", "lengths", "contexts")
    arguments = {"index": index, **{name: tick[name] for name in shown}}
    return Part("tick", "tick", sum(stage.ns for stage in stages), arguments, stages)


def _stage(name: str, seconds: float, inside: Sequence[Part] = ()) -> Part:
    return Part(name, "stage", _ns(seconds), {}, inside)


def _execution(instructions: Sequence[Record], tick: Record) -> list[Part]:
    return [
        *_pieces(tick, "prepare", "turn"),
        *(_instruction(each, ns) for each, ns in zip(instructions, tick["ns"])),
        *_pieces(tick, "finish"),
    ]


def _pieces(tick: Record, *names: str) -> list[Part]:
    return [Part(name, "phase", _ns(tick[name])) for name in names]


def _instruction(instruction: Record, ns: int) -> Part:
    arguments = {"index": instruction["index"], "layer": instruction["layer"]}
    return Part(instruction["opcode"], "instruction", max(ns, 0), arguments)


def _placed(part: Part, start: int, latest: int | None) -> Span:
    """The part with a place, cut off where what holds it ends."""
    end = start + part.ns if latest is None else min(start + part.ns, latest)
    inside, at = [], start
    for piece in part.inside:
        span = _placed(piece, at, end)
        at = span.end
        if span.end > span.start:
            inside.append(span)
    return Span(part.name, part.kind, start, end, part.arguments, inside)


def _counters(tick: Record, span: Span) -> Iterator[Event]:
    """What holds when a tick ends, and the tokens it made over the time it took."""
    seconds = (span.end - span.start) / 1e9
    yield _counter("running and waiting", span.end, tick, "running", "waiting")
    yield _counter("KV pages", span.end, tick, "used_pages", "cached_pages")
    yield _counter("memory", span.end, tick, "memory")
    rate = {"tokens/s": tick["tokens"] / seconds if seconds else 0.0}
    yield _counter("tokens/s", span.start, rate, "tokens/s")


def _counter(title: str, ns: int, values: Record, *names: str) -> Event:
    arguments = {name.replace("_", " "): values[name] for name in names}
    return {"ph": "C", "name": title, "pid": CLOCK, "ts": ns / 1000, "args": arguments}


# Requests.


def _requests(document: Record) -> Iterator[Event]:
    free: list[int] = []
    order = sorted(enumerate(document["requests"]), key=lambda each: each[1]["arrived"])
    for index, request in order:
        span = _request(index, request)
        lane = _lane(free, span)
        if lane == len(free):
            free.append(0)
            yield _named("thread_name", REQUESTS, lane + 1, f"requests {lane + 1}")
        free[lane] = span.end
        yield from _events(span, REQUESTS, lane + 1)


def _lane(free: Sequence[int], span: Span) -> int:
    """The first lane that is free when the span begins, or a new one."""
    return next((lane for lane, end in enumerate(free) if end <= span.start), len(free))


def _request(index: int, request: Record) -> Span:
    start = max(_ns(request["arrived"]), 0)
    end = max(_ns(request["ended"]), start)
    marks = [start, *_marks(request, start, end), end]
    phases = [
        Span(name, "phase", left, right)
        for name, left, right in zip(("queue", "prompt", "generation"), marks, marks[1:])
        if right > left
    ]
    shown = ("prompt", "cached", "tokens", "drafted", "accepted", "finish")
    arguments = {name: request[name] for name in shown}
    return Span(f"request {index}", "request", start, end, arguments, phases)


def _marks(request: Record, start: int, end: int) -> Iterable[int]:
    """When it was let in and when its first token came; the end, if that never was."""
    latest = start
    for name in ("admitted", "first_token"):
        moment = request[name]
        latest = min(max(_ns(moment), latest), end) if moment is not None else end
        yield latest


# Events.


def _events(span: Span, process: int, track: int) -> Iterator[Event]:
    """The span, then what is inside it: of two that begin together the one outside comes first."""
    yield {
        "ph": "X",
        "name": span.name,
        "cat": span.kind,
        "pid": process,
        "tid": track,
        "ts": span.start / 1000,
        "dur": (span.end - span.start) / 1000,
        **({"args": dict(span.arguments)} if span.arguments else {}),
    }
    for each in span.inside:
        yield from _events(each, process, track)


def _ns(seconds: float) -> int:
    return max(round(seconds * 1e9), 0)
