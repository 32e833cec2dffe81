"""The face for asyncio: tasks that come and go, several loops, and closing in the middle."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from collections.abc import Sequence as Row
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock import LLM
from overclock.async_engine import AsyncLLM
from overclock.clock.completion import Piece
from overclock.clock.settings import ClockSettings
from overclock.errors import InputError, OverloadError
from tests.checkpoints import FIXTURES

PATIENCE_S = 60.0

PROMPTS = [[n + 1, n + 2, n + 3] for n in range(10)]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(FIXTURES / "llama", kv_memory=1 << 20) as opened:
        yield opened


@pytest.fixture(scope="module")
def wanted(llm: LLM) -> list[list[int]]:
    return [each.token_ids for each in llm.generate(PROMPTS, 30, ignore_eos=True)]


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work` in a loop of its own; what takes for ever is an error."""
    asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


async def until_idle(llm: LLM) -> None:
    """Wait until nothing is under way, and see that every page came back."""
    while llm.clock.is_busy:
        await asyncio.sleep(0.001)
    with llm.driver.between_ticks():
        llm.clock.check_integrity()
        assert llm.clock.pages.available == llm.clock.pages.count


def test_tasks_run_together_and_get_what_they_would_alone(
    llm: LLM, wanted: list[list[int]]
) -> None:
    face = AsyncLLM(llm)

    async def streamed(prompt: list[int]) -> list[int]:
        pieces = [piece async for piece in face.stream(prompt, 30, ignore_eos=True)]
        *first, last = pieces
        completion = last.completion
        assert completion is not None
        assert all(piece.completion is None for piece in first)
        assert "".join(piece.text for piece in pieces) == completion.text
        return [token for piece in pieces for token in piece.token_ids]

    async def work() -> None:
        whole = [face.generate(prompt, 30, ignore_eos=True) for prompt in PROMPTS]
        found = await asyncio.gather(*whole)
        assert [each.token_ids for each in found] == wanted
        assert await asyncio.gather(*map(streamed, PROMPTS)) == wanted
        replies = [face.submit(prompt, 30, ignore_eos=True) for prompt in PROMPTS]
        assert [(await reply.result()).token_ids for reply in replies] == wanted

    run(work)


def test_choices_are_those_of_the_plain_face(llm: LLM) -> None:
    async def work() -> None:
        found = await AsyncLLM(llm).choices([1, 2, 3], 4, 10, temperature=1.0, seed=3)
        again = llm.choices([1, 2, 3], 4, 10, temperature=1.0, seed=3)
        assert [each.token_ids for each in found] == [each.token_ids for each in again]

    run(work)


def test_a_cancelled_task_cancels_its_request(llm: LLM, wanted: list[list[int]]) -> None:
    face = AsyncLLM(llm)

    async def listen(prompt: list[int], heard: asyncio.Event) -> None:
        async for _ in face.stream(prompt, 120, ignore_eos=True):
            heard.set()

    async def cancel(task: asyncio.Task[Any]) -> None:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def work() -> None:
        other = asyncio.create_task(face.generate(PROMPTS[0], 30, ignore_eos=True))
        heard = asyncio.Event()
        listening = asyncio.create_task(listen([1], heard))
        waiting = asyncio.create_task(face.generate([2], 120, ignore_eos=True))
        several = asyncio.create_task(face.choices([3], 5, 120, temperature=1.0, ignore_eos=True))
        await heard.wait()
        for task in (listening, waiting, several):
            await cancel(task)
        assert (await other).token_ids == wanted[0]
        await until_idle(llm)

    run(work)


def test_a_stream_that_is_left_is_cancelled(llm: LLM) -> None:
    async def work() -> None:
        stream: AsyncGenerator[Piece] = AsyncLLM(llm).stream([1], 120, ignore_eos=True)
        async with aclosing(stream) as pieces:
            async for _ in pieces:
                break
        await until_idle(llm)

    run(work)


def test_a_loop_that_ends_in_the_middle_harms_nobody(llm: LLM, wanted: list[list[int]]) -> None:
    face = AsyncLLM(llm)

    async def leave() -> None:
        for prompt in PROMPTS:
            face.submit(prompt, 100, ignore_eos=True)

    async def work() -> None:
        assert (await face.generate(PROMPTS[1], 30, ignore_eos=True)).token_ids == wanted[1]
        await until_idle(llm)

    run(leave)
    run(work)


def test_loops_are_not_kept(llm: LLM) -> None:
    face = AsyncLLM(llm)

    async def work() -> None:
        await face.generate([1, 2], 2)

    for _ in range(5):
        run(work)
    gc.collect()
    assert len(face._doors) <= 1  # the clock may still be at the last one


@pytest.mark.parametrize("seed", range(3))
def test_loops_in_many_threads_share_one_model(
    llm: LLM, wanted: list[list[int]], seed: int
) -> None:
    face = AsyncLLM(llm)
    errors: list[BaseException] = []

    async def one(chance: random.Random) -> None:
        at = chance.randrange(len(PROMPTS))
        task = asyncio.create_task(face.generate(PROMPTS[at], 30, ignore_eos=True))
        if chance.random() < 0.4:
            await asyncio.sleep(chance.random() * 0.003)
            task.cancel()
        try:
            assert (await task).token_ids == wanted[at]
        except asyncio.CancelledError:
            return

    async def work(number: int) -> None:
        chance = random.Random(10 * seed + number)
        await asyncio.gather(*(one(chance) for _ in range(15)))

    def guarded(number: int) -> None:
        try:
            run(lambda: work(number))
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for prompt, tokens in zip(PROMPTS, wanted, strict=True):  # and the plain face beside them
        assert llm.generate(prompt, 30, ignore_eos=True).token_ids == tokens
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a loop is stuck"
    if errors:
        raise errors[0]
    run(lambda: until_idle(llm))


def test_what_goes_wrong_is_raised_where_it_is_awaited(llm: LLM) -> None:
    face = AsyncLLM(llm)

    def broken(tokens: Row[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        raise KeyError("mine")

    async def work() -> None:
        with pytest.raises(InputError, match="KeyError"):
            await face.generate([1], 5, logits_processor=broken)
        with pytest.raises(InputError, match="KeyError"):
            async for _ in face.stream([1], 5, logits_processor=broken):
                pass
        with pytest.raises(InputError, match="max_tokens"):
            await face.generate([1], 0)
        with pytest.raises(InputError, match="KeyError"):
            await face.choices([1], 3, 100, logits_processor=broken)
        completion = await face.generate([1], 100, deadline_s=0.0)
        assert completion.finish_reason == "deadline"
        await until_idle(llm)

    run(work)


def test_a_full_queue_is_told_at_once() -> None:
    few = ClockSettings(streams=1, queue=1)

    async def work() -> None:
        async with AsyncLLM(FIXTURES / "llama", kv_memory=1 << 20, settings=few) as face:
            with pytest.raises(OverloadError) as refused:
                [face.submit([1, 2], 120, ignore_eos=True) for _ in range(50)]
            assert refused.value.retry_after_s > 0
            with pytest.raises(OverloadError):
                await face.choices([1, 2], 20, 120, ignore_eos=True)
            while face.llm.clock.waiting:
                await asyncio.sleep(0.001)
            assert (await face.generate([1, 2], 3, ignore_eos=True)).finish_reason == "length"

    run(work)


def test_closing_cancels_what_is_under_way() -> None:
    before = set(threading.enumerate())

    async def work() -> None:
        face = AsyncLLM(FIXTURES / "llama", kv_memory=1 << 20)
        async with face:
            replies = [face.submit(prompt, 125, ignore_eos=True) for prompt in PROMPTS]
            async for _ in replies[0]:
                break
        found = [(await reply.result()).finish_reason for reply in replies]
        assert "cancelled" in found
        assert set(found) <= {"cancelled", "length"}
        with pytest.raises(InputError, match="closed"):
            await face.generate([1])

    run(work)
    clocks = [each for each in set(threading.enumerate()) - before if "clock" in each.name]
    assert not clocks
