"""llama.cpp through its Python binding, on the GGUF file as it is.

Options: kv=f16|q8_0, flash=0|1.
"""

from __future__ import annotations

from collections.abc import Sequence

import llama_cpp
import numpy as np
from worker import Decoder, Settings, serve, version


class LlamaCpp(Decoder):
    """Low-level evaluation and argmax: less work in Python than the binding's own generation."""

    version = version("llama-cpp-python")

    def __init__(self, settings: Settings) -> None:
        kv = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
        kind = kv[settings.options.get("kv", "f16")]
        self.llama = llama_cpp.Llama(
            settings.model,
            n_ctx=settings.context,
            n_batch=512,
            n_threads=settings.threads,
            n_threads_batch=settings.threads,
            flash_attn=settings.options.get("flash", "0") == "1",
            type_k=kind,
            type_v=kind,
            verbose=False,
        )

    def start(self, ids: Sequence[int]) -> int:
        self.llama.reset()
        self.llama.eval(ids)
        return self._likeliest()

    def next(self, token: int) -> int:
        self.llama.eval([token])
        return self._likeliest()

    def first_token(self, text: str) -> None:
        self.llama.create_completion(text, max_tokens=1, temperature=0.0)

    def _likeliest(self) -> int:
        logits = self.llama._ctx.get_logits()
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self.llama.n_vocab(),))))


if __name__ == "__main__":
    serve(LlamaCpp)
