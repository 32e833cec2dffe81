"""A conversation that stays within the context, and in the KV pages from turn to turn."""

from __future__ import annotations

from collections.abc import Generator
from typing import Unpack

from overclock import prompts
from overclock.asking import DEFAULT_MAX_TOKENS, Options
from overclock.clock.completion import Completion, Piece
from overclock.engine import LLM
from overclock.errors import InputError


class Conversation:
    """Messages that go back and forth. What is in the KV pages already is not run again.

    When the conversation outgrows the context, its oldest turns are dropped; a system message
    stays. `dropped` counts the turns that are gone.
    """

    def __init__(self, llm: LLM, system: str | None = None) -> None:
        if llm.model.chat_template is None:
            raise InputError(f"{llm.model.name} has no chat template, so it cannot hold a chat")
        self._llm = llm
        self._system = [{"role": "system", "content": system}] if system else []
        self._turns: list[dict[str, str]] = []
        self.dropped = 0
        self.last: Completion | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        """All messages that are still known, oldest first."""
        return [*self._system, *self._turns]

    def reset(self) -> None:
        """Forget everything but the system message."""
        self._turns.clear()
        self.dropped = 0

    def say(
        self, text: str, max_tokens: int = DEFAULT_MAX_TOKENS, **options: Unpack[Options]
    ) -> Generator[Piece]:
        """Answer `text`, piece by piece; `options` are those of `LLM.generate`.

        An answer that is left before its end stays in the conversation as far as it came. Raises
        InputError if `text` alone is too long for the context; the conversation is then as before.
        """
        before, dropped = list(self._turns), self.dropped
        self._turns.append({"role": "user", "content": text})
        try:
            self._make_room(max_tokens)
            pieces = self._llm.generate(self._ids(), max_tokens, stream=True, **options)
        except BaseException:
            self._turns, self.dropped = before, dropped
            raise
        return self._listen(pieces)

    def _listen(self, pieces: Generator[Piece]) -> Generator[Piece]:
        answer = {"role": "assistant", "content": ""}
        self._turns.append(answer)
        for piece in pieces:
            answer["content"] += piece.text
            self.last = piece.completion or self.last
            yield piece

    def _make_room(self, max_tokens: int) -> None:
        """Drop the oldest turns until the answer fits, or half of the context is free for it."""
        room = self._llm.context - min(max_tokens, self._llm.context // 2)
        while len(self._turns) > 1 and len(self._ids()) > room:
            del self._turns[:2]
            self.dropped += 1

    def _ids(self) -> list[int]:
        return prompts.to_ids(self._llm.model, self.messages)
