"""The Perfetto file of a trace: events that nest, and times that are those of the trace."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given

from overclock.trace.perfetto import perfetto
from tests.trace.documents import document, documents

Event = dict[str, Any]


def events(trace: dict[str, Any]) -> list[Event]:
    found: list[Event] = json.loads(perfetto(trace))["traceEvents"]
    return found


def tracks(found: list[Event]) -> dict[tuple[int, int], list[Event]]:
    by_track: dict[tuple[int, int], list[Event]] = {}
    for event in found:
        if event["ph"] == "X":
            by_track.setdefault((event["pid"], event["tid"]), []).append(event)
    return by_track


def ns(microseconds: float) -> int:
    return round(microseconds * 1000)


def ended(event: Event) -> int:
    return ns(event["ts"]) + ns(event["dur"])


def assert_nested(track: list[Event]) -> None:
    """In the order of the file, an event lies inside the open ones or begins after their end."""
    open_: list[Event] = []
    for event in track:
        while open_ and ended(open_[-1]) <= ns(event["ts"]):
            open_.pop()
        if open_:
            assert ended(event) <= ended(open_[-1])
        open_.append(event)


@given(documents())
def test_events_nest_and_time_goes_forward(trace: dict[str, Any]) -> None:
    for track in tracks(events(trace)).values():
        assert all(ns(event["dur"]) >= 0 for event in track)
        assert all(ns(a["ts"]) <= ns(b["ts"]) for a, b in pairwise(track))
        assert_nested(track)


@given(documents())
def test_everything_has_a_name_and_a_known_kind(trace: dict[str, Any]) -> None:
    named = {(e["pid"], e["tid"]) for e in events(trace) if e["name"] == "thread_name"}
    assert set(tracks(events(trace))) <= named
    assert {event["ph"] for event in events(trace)} <= {"M", "X", "C"}


def test_a_tick_is_where_it_was_and_holds_its_stages() -> None:
    trace = document(ticks=3)
    found = tracks(events(trace))[1, 1]
    ticks = [event for event in found if event["cat"] == "tick"]
    assert len(ticks) == len(trace["ticks"])
    for event, tick in zip(ticks, trace["ticks"]):
        whole = sum(tick[stage] for stage in ("fetch", "decode", "execute", "write_back"))
        assert event["ts"] == pytest.approx(tick["start"] * 1e6, abs=0.002)
        assert event["dur"] == pytest.approx(whole * 1e6, abs=0.004)
        assert event["args"]["rows"] == tick["rows"]


def test_instructions_take_what_they_took() -> None:
    trace = document(ticks=4, layers=2)
    found = [e for e in tracks(events(trace))[1, 1] if e["cat"] == "instruction"]
    for instruction in trace["instructions"]:
        spent = sum(e["dur"] for e in found if e["args"]["index"] == instruction["index"])
        assert spent == pytest.approx(instruction["seconds"] * 1e6, abs=0.01)


def test_stages_that_hold_more_than_themselves_cut_it_off() -> None:
    trace = document(ticks=2, layers=1)
    trace["ticks"][0]["execute"] /= 2
    track = tracks(events(trace))[1, 1]
    assert_nested(track)
    assert max(ended(e) for e in track if e["cat"] == "instruction") <= max(map(ended, track))


def test_requests_go_through_their_phases_in_lanes_that_do_not_cross() -> None:
    trace = document("streams", ticks=60, streams=6, layers=2)
    lanes = {track: found for track, found in tracks(events(trace)).items() if track[0] == 2}
    assert 1 < len(lanes) <= len(trace["requests"])
    shown = [event for lane in lanes.values() for event in lane if event["cat"] == "request"]
    assert len(shown) == len(trace["requests"])
    first = [event for event in lanes[2, 1] if event["ts"] < ended(lanes[2, 1][0]) / 1000]
    assert [event["name"] for event in first] == ["request 0", "queue", "prompt", "generation"]


def test_who_never_ran_only_waited() -> None:
    trace = document(ticks=1, streams=1)
    trace["requests"][0] |= {"admitted": None, "first_token": None, "last_token": None}
    names = [event["name"] for event in tracks(events(trace))[2, 1]]
    assert names == ["request 0", "queue"]


def test_counters_follow_the_ticks() -> None:
    trace = document(ticks=5)
    counters = [event for event in events(trace) if event["ph"] == "C"]
    assert {event["name"] for event in counters} == {
        "running and waiting",
        "KV pages",
        "memory",
        "tokens/s",
    }
    memory = [event["args"]["memory"] for event in counters if event["name"] == "memory"]
    assert memory == [tick["memory"] for tick in trace["ticks"]]
