"""What an engine shows while it runs, against what its answers and another observer say."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from overclock import LLM, AsyncLLM, Encoder
from overclock.errors import InputError
from overclock.settings import live
from overclock.trace.board import Board, Reading, find
from overclock.trace.record import RequestRecord, TickRecord
from tests.checkpoints import FIXTURES
from tests.trace.boards import engine

LLAMA = FIXTURES / "llama"
BERT = FIXTURES / "bert-mean"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OVERCLOCK_LIVE", raising=False)


def the_board() -> Reading:
    [found] = find()
    return found


class Watching:
    """An observer that wants all detail."""

    wants_detail = True

    def __init__(self) -> None:
        self.seconds = np.zeros(0)
        self.ticks: list[TickRecord] = []
        self.requests: list[RequestRecord] = []

    def tick(self, record: TickRecord) -> None:
        self.ticks.append(record)
        if record.detail is not None:
            found = record.detail.counters.seconds
            self.seconds = found + (self.seconds if len(self.seconds) else 0)

    def request(self, record: RequestRecord) -> None:
        self.requests.append(record)


@pytest.mark.parametrize("machine", ["native", "reference"])
def test_the_figures_are_what_was_done(machine: str) -> None:
    with LLM(LLAMA, machine=machine, live=True) as llm:  # type: ignore[arg-type]
        assert the_board().figures.ticks == 0
        prompts = [[number + 1, 2, 3] for number in range(4)]
        answers = llm.generate(prompts, 30, ignore_eos=True)
        shown, figures = the_board()[1:]
        assert figures.tokens == sum(each.usage.completion_tokens for each in answers) == 120
        assert figures.prompt_tokens == 12
        assert figures.requests == 4
        assert figures.drafted == sum(each.usage.drafted_tokens for each in answers)
        assert figures.accepted == sum(each.usage.accepted_tokens for each in answers)
        assert (figures.running, figures.waiting, figures.used_pages) == (0, 0, 0)
        assert figures.rows == 12 + 120 - 4 + figures.drafted - figures.accepted
        assert figures.memory > 1 << 20
        assert figures.at <= llm.clock._time.now()
        assert (shown.kind, shown.machine, shown.kv) == ("llm", machine, "f16")
        assert shown.pages == llm.kv.pages
        assert shown.page_bytes == llm.machine.page_bytes
        assert shown.model == llm.model.name
    assert find() == []


@pytest.mark.parametrize("is_watched", [False, True])
def test_the_times_are_those_of_the_ticks_and_of_the_machine(is_watched: bool) -> None:
    """Whether the counters are taken with every tick for somebody else, or now and then."""
    with LLM(LLAMA, live=True) as llm:
        watching = Watching()
        watching.wants_detail = is_watched
        llm.clock.watch(watching)
        for _ in range(3):
            llm.generate([1, 2, 3], 60, ignore_eos=True)
        shown, figures = the_board()[1:]
        ticks = watching.ticks
        assert figures.ticks == len(ticks)
        assert figures.stages == pytest.approx(
            [
                sum(getattr(each, name) for each in ticks)
                for name in ("fetch", "decode", "execute", "write_back")
            ]
        )
        assert figures.tick_s == pytest.approx(ticks[-1].seconds)
        assert figures.at == pytest.approx(ticks[-1].ended)
        opcodes = [each.op.value for each in llm.program.instructions]
        left = llm.machine.counters().seconds
        whole = watching.seconds if is_watched else left + np.zeros(len(opcodes))
        for name, seconds in zip(shown.opcodes, figures.seconds):
            mine = sum(each for op, each in zip(opcodes, whole) if op == name)
            if is_watched:
                assert seconds == pytest.approx(mine)
            else:  # the machine has what came after the last look
                assert 0 < seconds + mine < figures.execute


def test_an_encoder_shows_itself_too() -> None:
    with Encoder(BERT, live=True) as encoder:
        encoder.embed(["one", "two words"])
        shown, figures = the_board()[1:]
        assert (shown.kind, shown.kv, shown.pages) == ("encoder", "", 0)
        assert figures.requests == 2
        assert figures.tokens == 0
        assert figures.prompt_tokens == sum(map(len, encoder.encode(["one", "two words"])))
    assert find() == []


@pytest.mark.parametrize(
    ("variable", "wanted", "shown"),
    [
        *((None, None, 0), ("", None, 0), ("0", None, 0), ("1", None, 1)),
        *(("1", False, 0), ("0", True, 1), (None, True, 1)),
    ],
)
def test_who_is_seen(
    variable: str | None, wanted: bool | None, shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("OVERCLOCK_LIVE", variable)
    with LLM(LLAMA, live=wanted) as llm:
        assert len(find()) == shown
        assert len(llm.clock._observers) == shown
        llm.hide()
        assert find() == []


def test_what_says_neither_yes_nor_no_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="live is 'yes'"):
        LLM(LLAMA, live="yes")  # type: ignore[arg-type]
    for value in ("yes", "2", "true", " 1"):
        monkeypatch.setenv("OVERCLOCK_LIVE", value)
        with pytest.raises(InputError, match="set it to 1 or 0"):
            live()
        with pytest.raises(InputError, match="OVERCLOCK_LIVE"):
            Encoder(BERT)


def test_to_show_it_twice_is_to_show_it_once() -> None:
    with LLM(LLAMA, live=True) as llm:
        llm.show()
        assert len(find()) == len(llm.clock._observers) == 1


def test_a_model_that_is_forgotten_takes_its_board_down() -> None:
    opened = LLM(LLAMA, live=True)
    assert the_board().engine.kind == "llm"
    del opened
    gc.collect()
    assert find() == []


def test_boards_of_engines_that_were_killed_do_not_pile_up() -> None:
    left = Board(engine(born=1))  # a process that had our number before us
    assert left.path.exists()
    with LLM(LLAMA, live=True):
        assert not left.path.exists()


def test_answers_that_end_after_closing_do_no_harm() -> None:
    llm = LLM(LLAMA, live=True)
    replies = [llm.submit([each + 1], 60, ignore_eos=True) for each in range(3)]
    llm.close()
    assert find() == []
    assert {reply.result().finish_reason for reply in replies} == {"length"}
    assert find() == []


async def _opened_and_closed() -> int:
    async with AsyncLLM(LLAMA, live=True) as llm:
        await llm.generate([1, 2], 3)
        return len(find())


def test_the_face_for_coroutines() -> None:
    import asyncio

    assert asyncio.run(_opened_and_closed()) == 1
    assert find() == []
