"""The share of the limit that a run reached."""

from __future__ import annotations

import pytest

from overclock.cli.figures import limit_share
from overclock.clock.completion import Completion, Timing, Usage
from overclock.engine import LLM
from overclock.machine import limits
from overclock.machine.limits import Limits
from overclock.program.cost import generation_bytes
from tests.checkpoints import FIXTURES
from tests.predict import rig


def completion(accepted: int) -> Completion:
    usage = Usage(10, 40, drafted_tokens=accepted, accepted_tokens=accepted)
    return Completion("", [], "stop", usage, Timing(0.0, 0.1, None, 500.0))


def test_guesses_that_came_true_read_nothing_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: Limits = rig.limits()
    monkeypatch.setattr(limits, "load_or_measure", lambda threads, quick: known)
    with LLM(FIXTURES / "llama", 1, machine="reference") as llm:
        plain, guessed = (limit_share(llm, completion(each), 1, "f16") for each in (0, 30))
        moved = generation_bytes(llm.program, 30, "f16")
    assert plain == pytest.approx(500.0 * moved / (known.bandwidth(moved, 1) * rig.GB))
    assert plain is not None
    assert guessed == pytest.approx(plain / 4)
