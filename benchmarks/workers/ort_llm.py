"""ONNX Runtime GenAI on the 4-bit model that prepare_peers.py makes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnxruntime_genai
from worker import Decoder, Settings, Stream, common_prefix, serve, version


class OrtGenAI(Decoder):
    """Greedy search, a fresh generator for each prompt."""

    version = version("onnxruntime-genai")

    def __init__(self, settings: Settings) -> None:
        config = onnxruntime_genai.Config(settings.model)
        session = {"intra_op_num_threads": settings.threads, "inter_op_num_threads": 1}
        overlay = {"model": {"decoder": {"session_options": session}}}
        config.overlay(str(overlay).replace("'", '"'))
        self.model = onnxruntime_genai.Model(config)
        self.context = settings.context

    def start(self, ids: Sequence[int]) -> int:
        self._open(1, self.context)
        self.generator.append_tokens(list(ids))
        return self._likeliest()

    def next(self, token: int) -> int:
        return self._likeliest()

    def first_token(self, text: str) -> None:
        self.start(onnxruntime_genai.Tokenizer(self.model).encode(text).tolist())

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Stream]:
        """One batch; the same step for all."""
        begin = time.perf_counter()
        streams = [Stream() for _ in prompts]
        self._open(len(prompts), len(prompts[0]) + tokens)
        self.generator.append_tokens(np.asarray(prompts, np.int32))
        for _ in range(tokens):
            self.generator.generate_next_token()
            now = time.perf_counter() - begin
            for stream, token in zip(streams, self.generator.get_next_tokens()):
                stream.take(int(token), now)
        return streams

    def first_tokens(self, ids: Sequence[int], again: Sequence[int]) -> tuple[float, float]:
        """The second by taking the generator back to what is common, as its chats do."""
        begin = time.perf_counter()
        self.start(ids)
        middle = time.perf_counter()
        shared = common_prefix(ids, again)
        self.generator.rewind_to(shared)
        self.generator.append_tokens(list(again[shared:]))
        self._likeliest()
        return middle - begin, time.perf_counter() - middle

    def _open(self, streams: int, length: int) -> None:
        parameters = onnxruntime_genai.GeneratorParams(self.model)
        parameters.set_search_options(
            batch_size=streams, max_length=length, min_length=length, do_sample=False
        )
        self.generator = onnxruntime_genai.Generator(self.model, parameters)

    def _likeliest(self) -> int:
        self.generator.generate_next_token()
        return int(self.generator.get_next_tokens()[0])


if __name__ == "__main__":
    serve(OrtGenAI)
