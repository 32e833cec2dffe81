"""Whole texts through the clock: any company, any order of outputs, and the same rows."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.clock.clock import Clock
from overclock.clock.request import Encode, Encoded, Generate
from overclock.clock.sequence import Ticket
from overclock.clock.settings import ClockSettings
from overclock.clock.time import VirtualTime
from overclock.errors import InputError, OverclockError
from overclock.machine.native import NativeMachine
from overclock.model.load import load
from overclock.program.compiler import compile
from overclock.program.program import Program
from tests.checkpoints import FIXTURES

CONTEXT = 64


@cache
def loaded() -> tuple[NativeMachine, Program]:
    model = load(FIXTURES / "bert")
    program = compile(model, exact=True)
    machine = NativeMachine(2, "f32")
    machine.load(program, model.weights, pages=0)
    return machine, program


def new_clock(**options: int) -> Clock:
    machine, program = loaded()
    return Clock(machine, program, 0, settings=ClockSettings(**options), time=VirtualTime())  # type: ignore[arg-type]


def run(clock: Clock, tickets: list[Ticket]) -> list[Encoded]:
    """What comes of requests, in their order."""
    found: dict[Ticket, Encoded] = {}
    while clock.is_busy:
        for event in clock.tick():
            assert isinstance(event.content, Encoded)
            assert event.last
            assert event.ticket not in found
            found[event.ticket] = event.content
        clock.check_integrity()
        assert clock.last is not None
        most = max(len(ticket.request.token_ids) for ticket in tickets)
        assert clock.last.rows <= max(clock.settings.tick_tokens, most)
    return [found[ticket] for ticket in tickets]


@cache
def alone(tokens: tuple[int, ...], output: str, rows: tuple[int, ...]) -> NDArray[np.float32]:
    clock = new_clock()
    ticket = clock.submit(Encode(token_ids=list(tokens), output=output, rows=rows))
    values = run(clock, [ticket])[0].values
    assert values is not None
    return values


@st.composite
def requests(draw: st.DrawFn) -> Encode:
    tokens = draw(st.lists(st.integers(0, 287), min_size=1, max_size=CONTEXT))
    output = draw(st.sampled_from(["hidden", "embedding", "scores"]))
    rows = draw(st.lists(st.integers(0, len(tokens) - 1), max_size=3))
    return Encode(token_ids=tokens, output=output, rows=tuple(rows) if output == "scores" else ())


@given(
    crowd=st.lists(requests(), min_size=1, max_size=12), tick_tokens=st.sampled_from([1, 50, 512])
)
@settings(max_examples=30)
def test_a_text_gets_the_same_rows_in_any_company(crowd: list[Encode], tick_tokens: int) -> None:
    clock = new_clock(tick_tokens=tick_tokens)
    found = run(clock, [clock.submit(each) for each in crowd])
    for request, each in zip(crowd, found, strict=True):
        assert each.values is not None
        wanted = alone(tuple(request.token_ids), request.output, request.rows)
        assert each.values.tobytes() == wanted.tobytes()
        assert each.values.shape == wanted.shape
        sizes = {"hidden": len(request.token_ids), "embedding": 1, "scores": len(request.rows)}
        assert len(wanted) == sizes[request.output]


def test_only_the_text_that_cannot_run_fails() -> None:
    clock = new_clock()
    texts = [[1, 2, 3], [4, 10**6], [5, 6]]
    tickets = [clock.submit(Encode(token_ids=text, output="embedding")) for text in texts]
    first, second, third = run(clock, tickets)
    assert "1000000" in str(second.error)
    for found, text in ((first, texts[0]), (third, texts[2])):
        assert found.values is not None
        assert found.values.tobytes() == alone(tuple(text), "embedding", ()).tobytes()


def test_texts_can_be_cancelled_and_have_deadlines_and_priorities() -> None:
    clock = new_clock(tick_tokens=1)
    asked = [
        Encode(token_ids=[1, 2], output="embedding"),
        Encode(token_ids=[1, 3], output="embedding", deadline_s=0.0),
        Encode(token_ids=[1, 4], output="embedding", priority=2),
        Encode(token_ids=[1, 5], output="embedding"),
    ]
    tickets = [clock.submit(each) for each in asked]
    clock.cancel(tickets[3])
    order = [event.ticket for _ in range(3) for event in clock.tick()]
    assert order == [tickets[3], tickets[1], tickets[2], tickets[0]]
    assert not clock.is_busy


def test_what_no_encoder_can_run_is_refused() -> None:
    clock = new_clock()
    with pytest.raises(InputError, match="LLM"):
        clock.submit(Generate(token_ids=[1], max_tokens=1))
    for tokens in ([], [1] * (CONTEXT + 1)):
        with pytest.raises(OverclockError, match="1 to 64"):
            clock.submit(Encode(token_ids=tokens, output="embedding"))
