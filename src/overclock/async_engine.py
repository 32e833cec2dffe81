"""The face of a language model for asyncio."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Queue, get_running_loop, to_thread
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Self, Unpack
from weakref import WeakKeyDictionary, ref

from overclock import prompts
from overclock.asking import DEFAULT_MAX_TOKENS, Options
from overclock.clock.completion import Completion, Piece
from overclock.clock.request import Generate
from overclock.clock.roster import Event
from overclock.engine import LLM, LLMOptions
from overclock.errors import InputError
from overclock.model.model import Model
from overclock.reply import piece_of


class AsyncLLM:
    """`LLM` for coroutines: any number of requests of any number of tasks run together.

    ::

        async with AsyncLLM("smollm2") as llm:
            async for piece in llm.stream("The sky is blue because"):
                print(piece.text, end="")
    """

    def __init__(self, model: str | Path | Model | LLM, **options: Unpack[LLMOptions]) -> None:
        """Open `model` as `LLM` does; opening takes as long as it takes and blocks the loop.

        An `LLM` that is open can be given too, with no options; both faces then share it.
        """
        if isinstance(model, LLM) and options:
            raise InputError(
                f"this LLM is open already; {', '.join(options)} can only be said when it is opened"
            )
        self.llm = model if isinstance(model, LLM) else LLM(model, **options)
        self._doors: WeakKeyDictionary[AbstractEventLoop, _Door] = WeakKeyDictionary()

    async def generate(
        self,
        prompt: prompts.Prompt,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        **options: Unpack[Options],
    ) -> Completion:
        """The answer to `prompt`; see `LLM.generate`. A cancelled task cancels its request."""
        reply = self.submit(prompt, max_tokens, stream=False, **options)
        return await reply.result()

    async def choices(
        self,
        prompt: prompts.Prompt,
        count: int,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        **options: Unpack[Options],
    ) -> list[Completion]:
        """`count` answers to one prompt, which is run once; see `LLM.choices`."""
        requests = self.llm.asking.choices(prompt, count, max_tokens, **options)
        replies: list[AsyncReply] = []
        try:
            replies.extend(self._reply(request) for request in requests)
            return [await reply.result() for reply in replies]
        finally:
            for reply in replies:
                reply.cancel()

    async def stream(
        self,
        prompt: prompts.Prompt,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Piece]:
        """The answer in pieces; the last one carries the whole. Left early, it is cancelled."""
        reply = self.submit(prompt, max_tokens, **options)
        try:
            async for piece in reply:
                yield piece
        finally:
            reply.cancel()

    def submit(
        self,
        prompt: prompts.Prompt,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        *,
        stream: bool = True,
        **options: Unpack[Options],
    ) -> AsyncReply:
        """Hand a request in and go on; call it in a running loop.

        Raises InputError as `LLM.generate` does, and OverloadError if too many requests wait.
        """
        return self._reply(self.llm.asking.request(prompt, max_tokens, stream=stream, **options))

    async def close(self) -> None:
        """Take no more requests, cancel those on their way, and give the memory back."""
        self.llm.hide()
        await to_thread(self.llm.driver.stop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _reply(self, request: Generate) -> AsyncReply:
        loop = get_running_loop()
        door = self._doors.get(loop)
        if door is None:
            door = self._doors[loop] = _Door(loop)
        return AsyncReply(self.llm, request, door)


class AsyncReply:
    """One request on its way, for one task to read."""

    def __init__(self, llm: LLM, request: Generate, door: _Door) -> None:
        self._llm = llm  # open as long as someone waits
        self._mail: Queue[Event] = Queue()
        self._completion: Completion | None = None
        mail = self._mail
        self._ticket = llm.driver.submit(request, lambda event: door.post(mail, event))

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The pieces that are still to come; the last one carries the whole.

        Raises what made the request fail, if it did.
        """
        while self._completion is None:
            piece = piece_of(await self._mail.get())
            self._completion = piece.completion
            piece.check()
            yield piece

    async def result(self) -> Completion:
        """The whole answer. If the waiting task is cancelled, so is the request."""
        try:
            async for _ in self:
                pass
        finally:
            if self._completion is None:
                self.cancel()
        assert self._completion is not None
        return self._completion

    def cancel(self) -> None:
        """End it as far as it came; its finish reason will be `cancelled`."""
        self._llm.driver.cancel(self._ticket)


class _Door:
    """From the clock's thread into one loop; a tick's events wake the loop once."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = ref(loop)  # the table of doors must not keep a loop alive
        self._events: list[tuple[Queue[Event], Event]] = []
        self._is_called = False

    def post(self, mail: Queue[Event], event: Event) -> None:
        """Put an event into a task's mail; called in the clock's thread."""
        self._events.append((mail, event))
        loop = self._loop()
        if self._is_called or loop is None or loop.is_closed():
            return
        self._is_called = True
        try:
            loop.call_soon_threadsafe(self._open)
        except RuntimeError:  # the loop was closed in between: nobody reads any more
            self._events.clear()

    def _open(self) -> None:
        self._is_called = False  # first: what comes from here on calls again
        events, self._events = self._events, []
        for mail, event in events:
            mail.put_nowait(event)
