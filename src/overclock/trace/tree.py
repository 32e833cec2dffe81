"""Where the wall time of a trace went, from the whole down to single layers of an opcode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.program.program import Program
from overclock.trace.record import TickDetail, TickRecord
from overclock.trace.recorder import Recorder

UNACCOUNTED = "unaccounted"

Span: TypeAlias = tuple[float, float]
"""When something began and when it ended."""


@dataclass(slots=True)
class Node:
    """A part of the time, and what it is made of.

    Children's sums do not exceed their parent, but for the difference of two timers.
    """

    name: str
    seconds: float
    children: list[Node] = field(default_factory=list)

    def with_rest(self, name: str) -> Node:
        """The same, with what its children leave as one more child of this name."""
        rest = self.seconds - sum(child.seconds for child in self.children)
        if rest > 0.0:
            self.children.append(Node(name, rest))
        return self


def timeline(recorder: Recorder, program: Program) -> Node:
    """The whole: tokenising, the stages of all ticks, the time between ticks, and the rest.

    `queue` is the time from the first request to the first tick: it is handed in, a thread wakes.
    `idle` is time between ticks in which no request was there; `between ticks` is that in which
    some were: events are handed out, whoever reads them runs.
    """
    ticks = recorder.ticks
    wall = Node("wall", recorder.ended - recorder.began)
    before = ticks[0].started if ticks else recorder.ended
    gaps = list(_gaps(ticks))
    spans = sorted((each.arrived - each.tokenize, each.arrived) for each in recorder.requests)
    details = [tick.detail for tick in ticks if tick.detail is not None]
    children = [
        Node("tokenise", _tokenise(spans, recorder.began, before)),
        Node("queue", _queue(recorder, spans, before)),
        Node("fetch", sum(tick.fetch for tick in ticks)),
        Node("decode", sum(tick.decode for tick in ticks)),
        _execute(ticks, details, program),
        _write_back(ticks, details),
        Node("between ticks", sum(gap for gap, is_idle in gaps if not is_idle)),
        Node("idle", sum(gap for gap, is_idle in gaps if is_idle)),
    ]
    wall.children = [child for child in children if child.seconds > 0.0]
    return wall.with_rest(UNACCOUNTED)


def accounted(tree: Node) -> float:
    """Seconds of a timeline that something explains, in all its depth; never more than all."""
    if tree.name == UNACCOUNTED:
        return 0.0
    if not tree.children:
        return tree.seconds
    return min(tree.seconds, sum(accounted(child) for child in tree.children))


def _tokenise(spans: list[Span], began: float, before: float) -> float:
    """Seconds until the first tick in which some text became tokens.

    What is tokenised while ticks run costs the clock nothing.
    """
    return _covered(spans, began, before)


def _queue(recorder: Recorder, spans: list[Span], before: float) -> float:
    """Seconds from the first arrival to the first tick, without those of other texts' tokens."""
    first = min((each.arrived for each in recorder.requests), default=before)
    first = max(first, recorder.began)
    if first >= before:
        return 0.0
    return before - first - _covered(spans, first, before)


def _covered(spans: list[Span], start: float, stop: float) -> float:
    """Seconds of start … stop that at least one of the spans, which rise, covers."""
    total, reached = 0.0, start
    for first, last in spans:
        total += max(0.0, min(last, stop) - max(first, reached))
        reached = max(reached, min(last, stop))
    return total


def _gaps(ticks: list[TickRecord]) -> Iterator[tuple[float, bool]]:
    """Time from each tick to the next, and whether there was nothing to do in it."""
    for tick, after in pairwise(ticks):
        yield max(0.0, after.started - tick.ended), not tick.running and not tick.waiting


def _execute(ticks: Iterable[TickRecord], details: list[TickDetail], program: Program) -> Node:
    node = Node("execute", sum(tick.execute for tick in ticks))
    counters = [detail.counters for detail in details]
    if not counters:
        return node
    seconds = np.sum([each.seconds for each in counters], axis=0)
    node.children = [
        Node("call", sum(each.call for each in counters)),
        Node("prepare", sum(each.prepare for each in counters)),
        Node("turn", sum(each.turn for each in counters)),
        *_opcodes(seconds, program),
        Node("finish", sum(each.finish for each in counters)),
    ]
    node.children = [child for child in node.children if child.seconds > 0.0]
    return node.with_rest(UNACCOUNTED)


def _opcodes(seconds: NDArray[np.float64], program: Program) -> list[Node]:
    """A node an opcode, the longest first, with one for each of its layers."""
    nodes: dict[str, Node] = {}
    for instruction, spent in zip(program.instructions, seconds.tolist(), strict=True):
        if not spent:
            continue
        opcode = nodes.setdefault(instruction.op.value, Node(instruction.op.value, 0.0))
        opcode.seconds += spent
        name = "outside of layers" if instruction.layer is None else f"layer {instruction.layer}"
        if not opcode.children or opcode.children[-1].name != name:
            opcode.children.append(Node(name, 0.0))
        opcode.children[-1].seconds += spent
    return sorted(nodes.values(), key=lambda node: -node.seconds)


def _write_back(ticks: Iterable[TickRecord], details: list[TickDetail]) -> Node:
    node = Node("write back", sum(tick.write_back for tick in ticks))
    node.children = [
        Node("choose tokens", sum(detail.choose for detail in details)),
        Node("make text", sum(detail.text for detail in details)),
    ]
    node.children = [child for child in node.children if child.seconds > 0.0]
    return node.with_rest("keep books") if node.children else node
