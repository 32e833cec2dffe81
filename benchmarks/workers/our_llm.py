"""overclock on a language model. Options: kv=f32|f16|i8, exact=1."""

from __future__ import annotations

from collections.abc import Sequence

from worker import Decoder, Settings, serve, version

from overclock import LLM


class Ours(Decoder):
    """The public face; the seconds of a generation are the engine's own, from token to token."""

    version = version("overclock")

    def __init__(self, settings: Settings) -> None:
        options = settings.options
        self.llm = LLM(
            settings.model,
            threads=settings.threads,
            exact=options.get("exact") == "1",
            kv=options.get("kv", "f16"),  # type: ignore[arg-type]
            context=settings.context,
        )

    def start(self, ids: Sequence[int]) -> int:
        return self.greedy(ids, 1)[0][0]

    def first_token(self, text: str) -> None:
        self.llm.generate(text, max_tokens=1)

    def greedy(self, ids: Sequence[int], tokens: int) -> tuple[list[int], float]:
        answer = self.llm.generate(list(ids), max_tokens=tokens, ignore_eos=True)
        speed = answer.timing.generation_tokens_per_s
        return answer.token_ids, (tokens - 1) / speed if speed else 0.0


if __name__ == "__main__":
    serve(Ours)
