"""OpenVINO GenAI on the CPU, on the GGUF file as it is.

Option: kv=u8|f16 (its own default on a CPU is u8).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino
import openvino_genai
from worker import Decoder, Settings, serve, version


class OpenVinoGenAI(Decoder):
    """The pipeline's own greedy generation; times of tokens are the pipeline's."""

    version = version("openvino-genai")

    def __init__(self, settings: Settings) -> None:
        config: dict[str, object] = {"INFERENCE_NUM_THREADS": settings.threads}
        if "kv" in settings.options:
            config["KV_CACHE_PRECISION"] = settings.options["kv"]
        self.pipeline = openvino_genai.LLMPipeline(settings.model, "CPU", config)

    def start(self, ids: Sequence[int]) -> int:
        return self.greedy(ids, 1)[0][0]

    def first_token(self, text: str) -> None:
        self.pipeline.generate(text, max_new_tokens=1, apply_chat_template=False)

    def greedy(self, ids: Sequence[int], tokens: int) -> tuple[list[int], float]:
        prompt = openvino.Tensor(np.asarray([ids], np.int64))
        config = openvino_genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True)
        result = self.pipeline.generate(prompt, config)
        durations = result.perf_metrics.raw_metrics.m_durations  # of each token after the first, µs
        return list(result.tokens[0]), sum(durations[-(tokens - 1) :]) / 1e6 if tokens > 1 else 0.0


if __name__ == "__main__":
    serve(OpenVinoGenAI)
