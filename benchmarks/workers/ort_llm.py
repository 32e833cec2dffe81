"""ONNX Runtime GenAI on the 4-bit model that prepare_peers.py makes."""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime_genai
from worker import Decoder, Settings, serve, version


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
        parameters = onnxruntime_genai.GeneratorParams(self.model)
        parameters.set_search_options(
            max_length=self.context, do_sample=False, min_length=self.context
        )
        self.generator = onnxruntime_genai.Generator(self.model, parameters)
        self.generator.append_tokens(list(ids))
        return self._likeliest()

    def next(self, token: int) -> int:
        return self._likeliest()

    def first_token(self, text: str) -> None:
        self.start(onnxruntime_genai.Tokenizer(self.model).encode(text).tolist())

    def _likeliest(self) -> int:
        self.generator.generate_next_token()
        return int(self.generator.get_next_tokens()[0])


if __name__ == "__main__":
    serve(OrtGenAI)
