"""OpenVINO GenAI on the CPU, on the GGUF file as it is.

Options: kv=u8|f16 (its own default on a CPU is u8); batching=1 for its continuous batching, with
tokens=N of all prompts in a step (its own default is 256) and prefix=1 for its prefix cache.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import openvino
import openvino_genai
from worker import Clocked, Decoder, Settings, serve, version


class OpenVinoGenAI(Decoder):
    """The pipeline's own greedy generation; times of tokens are the pipeline's."""

    version = version("openvino-genai")

    def __init__(self, settings: Settings) -> None:
        self.pipeline = openvino_genai.LLMPipeline(settings.model, "CPU", properties(settings))

    def start(self, ids: Sequence[int]) -> int:
        return self.greedy(ids, 1)[0][0]

    def first_token(self, text: str) -> None:
        self.pipeline.generate(text, max_new_tokens=1, apply_chat_template=False)

    def greedy(self, ids: Sequence[int], tokens: int) -> tuple[list[int], float]:
        result = self.pipeline.generate(tensor(ids), no_end(tokens))
        durations = result.perf_metrics.raw_metrics.m_durations  # of each token after the first, µs
        return list(result.tokens[0]), sum(durations[-(tokens - 1) :]) / 1e6 if tokens > 1 else 0.0


class Handle(Protocol):
    """What the pipeline gives for a request; its class has no name in the package."""

    def can_read(self) -> bool: ...

    def read(self) -> Mapping[int, openvino_genai.GenerationOutput]: ...


class ContinuousBatching(Clocked):
    """The pipeline that its server uses, step by step."""

    version = version("openvino-genai")

    def __init__(self, settings: Settings) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = settings.options.get("prefix") == "1"
        if "tokens" in settings.options:
            scheduler.max_num_batched_tokens = int(settings.options["tokens"])
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            settings.model, scheduler, "CPU", properties(settings)
        )
        self.clear()

    def submit(self, ids: Sequence[int], tokens: int) -> int:
        number = len(self.handles)
        self.asked.append(time.perf_counter())
        self.handles.append(self.pipeline.add_request(number, tensor(ids), no_end(tokens)))
        return number

    def step(self, wanted: Collection[int]) -> Mapping[int, Sequence[int]]:
        if not self.pipeline.has_non_finished_requests():
            raise RuntimeError("all requests have ended, with fewer tokens than they asked for")
        self.pipeline.step()
        now = time.perf_counter()
        came: dict[int, Sequence[int]] = {}
        for number, handle in enumerate(self.handles):
            if handle.can_read():
                came[number] = [id for part in handle.read().values() for id in part.generated_ids]
                self.told.setdefault(number, now)
        return {number: ids for number, ids in came.items() if number in wanted}

    def first_token_seconds(self, request: int) -> float:
        while request not in self.told:
            self.step([])
        return self.told[request] - self.asked[request]

    def clear(self) -> None:
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        self.asked: list[float] = []
        self.handles: list[Handle] = []
        self.told: dict[int, float] = {}

    def greedy(self, ids: Sequence[int], tokens: int) -> tuple[list[int], float]:
        stream = self.together([ids], tokens)[0]
        return stream.ids, stream.times[-1] - stream.times[0]


def tensor(ids: Sequence[int]) -> openvino.Tensor:
    """A prompt as ``i64[1, tokens]``."""
    return openvino.Tensor(np.asarray([ids], np.int64))


def no_end(tokens: int) -> openvino_genai.GenerationConfig:
    """Greedy, of just so many tokens."""
    return openvino_genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True)


def properties(settings: Settings) -> dict[str, object]:
    """The device's settings."""
    chosen: dict[str, object] = {"INFERENCE_NUM_THREADS": settings.threads}
    if "kv" in settings.options:
        chosen["KV_CACHE_PRECISION"] = settings.options["kv"]
    return chosen


def load(settings: Settings) -> Decoder:
    """The pipeline for one stream, or the one for many."""
    many = settings.options.get("batching") == "1"
    return ContinuousBatching(settings) if many else OpenVinoGenAI(settings)


if __name__ == "__main__":
    serve(load)
