"""The report of a trace: its sums, its order and its words."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.trace import report
from tests.trace import documents


def seconds(text: str) -> float:
    number, unit = text.replace(",", "").split()
    return float(number) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]


@given(documents.documents())
def test_any_trace_has_a_report(document: dict[str, Any]) -> None:
    assert report.headline(document)
    for table in report.tables(document):
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert sum(report.reasons(document).values()) == pytest.approx(
        1.0 if report.reasons(document) else 0.0
    )
    assert all(isinstance(line, str) for line in (*report.why(document), *report.notes(document)))


@given(documents.documents())
def test_groups_add_up_to_all_instructions(document: dict[str, Any]) -> None:
    total = sum(each["seconds"] for each in document["instructions"])
    for table in (report.opcodes(document), report.layers(document)):
        assert sum(seconds(row[1]) for row in table.rows) == pytest.approx(total, rel=0.01)
        spent = [seconds(row[1]) for row in table.rows]
        if table.title == "by opcode":
            assert all(a >= 0.99 * b for a, b in pairwise(spent))


def test_rates_of_an_instruction_by_hand() -> None:
    document = documents.document("run", layers=1, ticks=2)
    each = max(document["instructions"], key=lambda one: one["seconds"])
    each.update(seconds=2.0, runs=4, operations=6e9, weight_bytes=1e9, activation_bytes=2e9)
    each.update(kv_bytes=3e9, attainable_s=1.5, layer=0, reason="memory")
    row = report.slowest(document).rows[0]
    assert row[0] == f"{each['index']} {each['opcode']}"
    assert row[1:3] == ("0", "2 s")
    assert row[4:] == ("500 ms", "3.0", "3", "75.0%", report.REASONS["memory"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,234 s"),
        (1.5, "1.5 s"),
        (0.0123, "12.3 ms"),
        (4.5e-6, "4.5 µs"),
        (7e-9, "7 ns"),
        (0.0, "0 ns"),
    ],
)
def test_times_have_the_unit_that_suits_them(value: float, text: str) -> None:
    assert report.seconds(value) == text


@given(st.floats(0.0, 100.0), st.floats(0.001, 100.0))
def test_shares_are_per_cent(part: float, whole: float) -> None:
    assert float(report.percent(part, whole).rstrip("%")) == pytest.approx(
        100 * part / whole, abs=0.051
    )


def test_a_share_of_nothing_is_left_out() -> None:
    assert report.percent(1.0, 0.0) == ""


def test_queueing_and_waiting_are_told_in_sentences() -> None:
    document = documents.document("streams", layers=1, ticks=3, streams=2)
    document["machine"]["threads"] = 2
    total = sum(each["seconds"] for each in document["instructions"])
    document["wait_s"] = total / 2
    for each, wait in zip(document["requests"], (1.0, 3.0), strict=False):
        each["admitted"] = each["arrived"] + wait
    lines = report.notes(document)
    assert "threads waited at barriers for 25.0% of the time of instructions" in lines
    assert "requests waited 2 s on average before they ran, 3 s at most" in lines
