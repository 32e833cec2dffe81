"""overclock on a language model. Options: kv=f32|f16|i8, exact=1, prompts=first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from worker import Clocked, Settings, serve, version

from overclock import LLM, ClockSettings, Piece
from overclock.reply import Reply


class Ours(Clocked):
    """The public face; the seconds of a generation are the engine's own, from token to token.

    Nothing is speculated or taken from an earlier prompt, as in no peer, unless a task is about it.
    """

    version = version("overclock")

    def __init__(self, settings: Settings) -> None:
        self.replies: list[Reply] = []
        self.pieces: list[Iterator[Piece]] = []
        options = settings.options
        self.llm = LLM(
            settings.model,
            threads=settings.threads,
            exact=options.get("exact") == "1",
            kv=options.get("kv", "f16"),  # type: ignore[arg-type]
            context=settings.context,
            settings=ClockSettings(stretch=None)
            if options.get("prompts") == "first"
            else ClockSettings(),
        )

    def start(self, ids: Sequence[int]) -> int:
        return self.llm.generate(list(ids), max_tokens=1, reuse_prefix=False).token_ids[0]

    def first_token(self, text: str) -> None:
        self.llm.generate(text, max_tokens=1)

    def greedy(self, ids: Sequence[int], tokens: int) -> tuple[list[int], float]:
        answer = self.llm.generate(
            list(ids), max_tokens=tokens, ignore_eos=True, reuse_prefix=False, speculation="off"
        )
        speed = answer.timing.generation_tokens_per_s
        return answer.token_ids, (tokens - 1) / speed if speed else 0.0

    def submit(self, ids: Sequence[int], tokens: int) -> int:
        reply = self.llm.submit(list(ids), tokens, ignore_eos=True, speculation="off")
        self.replies.append(reply)
        self.pieces.append(iter(reply))
        return len(self.replies) - 1

    def step(self, wanted: Collection[int]) -> Mapping[int, Sequence[int]]:
        """The next piece of each wanted reply; when the first has come, so have the others."""
        return {number: next(self.pieces[number]).token_ids for number in wanted}

    def first_token_seconds(self, request: int) -> float:
        seconds = self.replies[request].result().timing.first_token_s
        assert seconds is not None, "a reply without a token"
        return seconds

    def clear(self) -> None:
        for reply in self.replies:
            reply.result()
        self.replies, self.pieces = [], []


if __name__ == "__main__":
    serve(Ours)
