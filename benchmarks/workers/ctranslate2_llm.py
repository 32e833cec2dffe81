"""CTranslate2 on the int8 model that prepare_peers.py makes. Option: compute=int8|int8_float32."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import ctranslate2
from worker import Decoder, Settings, Stream, serve, version


class CTranslate2(Decoder):
    """Its own greedy generation; a callback notes each token."""

    version = version("ctranslate2")

    def __init__(self, settings: Settings) -> None:
        self.generator = ctranslate2.Generator(
            settings.model,
            compute_type=settings.options.get("compute", "int8"),
            inter_threads=1,
            intra_threads=settings.threads,
        )
        self.words = json.loads((Path(settings.model) / "vocabulary.json").read_text())

    def start(self, ids: Sequence[int]) -> int:
        return self.greedy(ids, 1)[0][0]

    def greedy(self, ids: Sequence[int], tokens: int) -> tuple[list[int], float]:
        stream = self.together([ids], tokens)[0]
        return stream.ids, stream.times[-1] - stream.times[0]

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Stream]:
        streams = [Stream() for _ in prompts]
        begin = time.perf_counter()

        def note(result: ctranslate2.GenerationStepResult) -> bool:
            streams[result.batch_id].take(result.token_id, time.perf_counter() - begin)
            return False

        self.generator.generate_batch(
            [[self.words[id] for id in ids] for ids in prompts],
            max_length=tokens,
            min_length=tokens,
            include_prompt_in_result=False,
            callback=note,
        )
        return streams


if __name__ == "__main__":
    serve(CTranslate2)
