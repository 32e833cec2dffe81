"""The tree of a trace adds up, whatever the ticks were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.trace.record import RequestRecord, TickRecord
from overclock.trace.tree import UNACCOUNTED, Node, accounted, timeline
from tests.trace import rig


def child(node: Node, *names: str) -> Node:
    for name in names:
        (node,) = (each for each in node.children if each.name == name)
    return node


def walk(node: Node) -> Iterator[Node]:
    yield node
    for each in node.children:
        yield from walk(each)


def test_one_tick_by_hand() -> None:
    requests = [rig.request(0.5, tokenize=0.2)]
    ticks = [rig.tick(1.0, rig.counters()), rig.tick(2.0, rig.counters(), running=0)]
    tree = timeline(rig.recorder(ticks, requests, ended=3.0), rig.PROGRAM)
    run = rig.COUNT * 1e-3 + 6e-3
    whole = 1e-3 + 2e-3 + run + 1.5e-3 + 4e-3
    wanted = {
        "tokenise": 0.2,
        "queue": 0.5,
        "fetch": 2e-3,
        "decode": 4e-3,
        "execute": 2 * (run + 1.5e-3),
        "write back": 8e-3,
        "between ticks": 1.0 - whole,
        UNACCOUNTED: 3.0 - 0.7 - 2 * whole - (1.0 - whole),
    }
    assert {each.name: each.seconds for each in tree.children} == pytest.approx(wanted)
    execute = child(tree, "execute")
    parts = {"call": 1e-3, "prepare": 2e-3, "turn": 4e-3, "finish": 6e-3, UNACCOUNTED: 2e-3}
    for name, seconds in parts.items():
        assert child(execute, name).seconds == pytest.approx(seconds)
    products = [each for each in rig.PROGRAM.instructions if each.op.value == "matmul"]
    assert child(execute, "matmul").seconds == pytest.approx(2e-3 * len(products))
    back = child(tree, "write back")
    assert child(back, "choose tokens").seconds == pytest.approx(3e-3)
    assert child(back, "keep books").seconds == pytest.approx(3e-3)
    assert accounted(tree) == pytest.approx(3.0 - wanted[UNACCOUNTED] - 2e-3)


def test_time_without_requests_is_idle() -> None:
    ticks = [rig.tick(1.0, running=0), rig.tick(2.0)]
    tree = timeline(rig.recorder(ticks), rig.PROGRAM)
    assert child(tree, "idle").seconds == pytest.approx(1.0 - 7e-3)
    assert all(each.name != "between ticks" for each in tree.children)


def test_texts_that_become_tokens_side_by_side_count_once() -> None:
    requests = [rig.request(1.0, 1.0), rig.request(2.0, 1.5), rig.request(9.0, 7.0)]
    tree = timeline(rig.recorder([rig.tick(3.0)], requests), rig.PROGRAM)
    assert child(tree, "tokenise").seconds == pytest.approx(3.0)  # 0 … 2, and 2 … 3 of the third
    assert all(each.name != "queue" for each in tree.children)


def test_nothing_happened() -> None:
    tree = timeline(rig.recorder([], ended=2.0), rig.PROGRAM)
    assert [(each.name, each.seconds) for each in tree.children] == [(UNACCOUNTED, 2.0)]
    assert accounted(tree) == 0.0


def test_a_tick_without_detail_is_known_by_its_stages() -> None:
    tree = timeline(rig.recorder([replace(rig.tick(1.0), execute=0.5)]), rig.PROGRAM)
    assert child(tree, "execute").children == []
    assert accounted(tree) == pytest.approx(0.507)


times = st.floats(0.0, 1.0)


@st.composite
def ticks(draw: st.DrawFn) -> list[TickRecord]:
    """Ticks one after another, each with whatever its machine took."""
    now, found = draw(times), []
    for _ in range(draw(st.integers(0, 5))):
        seconds = np.array(
            draw(
                st.lists(st.sampled_from([0.0, 1e-3, 0.1]), min_size=rig.COUNT, max_size=rig.COUNT)
            )
        )
        watched = draw(st.booleans())
        record = rig.tick(now, rig.counters(seconds) if watched else None)
        found.append(replace(record, running=draw(st.integers(0, 1))))
        now = record.ended + draw(times)
    return found


@given(
    ticks=ticks(),
    waits=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), max_size=5),
    rest=times,
)
def test_children_never_have_more_than_their_parent(
    ticks: list[TickRecord], waits: list[tuple[float, float]], rest: float
) -> None:
    requests: list[RequestRecord] = [rig.request(arrived, spent) for arrived, spent in waits]
    ended = (ticks[-1].ended if ticks else 0.0) + rest
    tree = timeline(rig.recorder(ticks, requests, ended=ended), rig.PROGRAM)
    assert tree.seconds == pytest.approx(ended)
    near = 1e-9 + 1e-9 * ended
    for node in walk(tree):
        assert node.seconds >= 0.0
        if node.children:
            assert sum(each.seconds for each in node.children) <= node.seconds + near
    assert sum(each.seconds for each in tree.children) == pytest.approx(tree.seconds, abs=near)
    unknown = sum(node.seconds for node in walk(tree) if node.name == UNACCOUNTED)
    assert accounted(tree) + unknown == pytest.approx(tree.seconds, abs=near)
    spent = sum(each.detail.counters.seconds.sum() for each in ticks if each.detail is not None)
    names = {each.op.value for each in rig.PROGRAM.instructions}
    found = sum(
        node.seconds
        for stage in tree.children
        if stage.name == "execute"
        for node in stage.children
        if node.name in names
    )
    assert found == pytest.approx(float(spent), abs=near)
