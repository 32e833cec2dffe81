"""Where the wall time of a trace went, from the whole down to single layers of an opcode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from overclock.program.program import Program
from overclock.trace.record import TickDetail, TickRecord
from overclock.trace.recorder import Recorder

UNACCOUNTED = "unaccounted"


@dataclass(slots=True)
class Node:
    """A part of the time, and what it is made of. Children's sums never exceed their parent."""

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
    details = [tick.detail for tick in ticks if tick.detail is not None]
    children = [
        Node("tokenise", _tokenise(recorder, before)),
        Node("queue", _queue(recorder, before)),
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
    """Seconds of a timeline that something explains, in all its depth."""
    if tree.name == UNACCOUNTED:
        return 0.0
    if not tree.children:
        return tree.seconds
    return sum(accounted(child) for child in tree.children)


def _tokenise(recorder: Recorder, before: float) -> float:
    """Seconds until the first tick in which some text became tokens.

    What is tokenised while ticks run costs the clock nothing.
    """
    spans = sorted(
        (max(each.arrived - each.tokenize, recorder.began), min(each.arrived, before))
        for each in recorder.requests
    )
    total, reached = 0.0, recorder.began
    for start, stop in spans:
        total += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return total


def _queue(recorder: Recorder, before: float) -> float:
    """Seconds from the first arrival to the first tick, without those of other texts' tokens."""
    waiting = [each for each in recorder.requests if each.arrived < before]
    if not waiting:
        return 0.0
    first = min(each.arrived for each in waiting)
    later = [each for each in waiting if each.arrived - each.tokenize >= first]
    return max(0.0, before - first - sum(each.tokenize for each in later))


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
