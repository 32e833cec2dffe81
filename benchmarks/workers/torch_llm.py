"""transformers on torch in f32, from the GGUF file (dequantised when it is loaded)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from worker import Decoder, Settings, Stream, serve


class Transformers(Decoder):
    """The model's own forward pass with its cache; logits of the last row only."""

    version = f"{transformers.__version__}, torch {torch.__version__}"

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        torch.set_grad_enabled(False)
        path = Path(settings.model)
        self.source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        load = transformers.AutoModelForCausalLM.from_pretrained
        self.model = load(**self.source, dtype=torch.float32).eval()

    def start(self, ids: Sequence[int]) -> int:
        self.cache = transformers.DynamicCache()
        return self._run(ids)

    def next(self, token: int) -> int:
        return self._run([token])

    def first_token(self, text: str) -> None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**self.source)
        self.start(tokenizer(text).input_ids)

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Stream]:
        """One batch; the same step for all."""
        begin = time.perf_counter()
        streams = [Stream() for _ in prompts]
        cache = transformers.DynamicCache()
        rows = torch.tensor(prompts)
        for _ in range(tokens):
            out = self.model(rows, past_key_values=cache, use_cache=True, logits_to_keep=1)
            rows = out.logits[:, -1:].argmax(-1)
            now = time.perf_counter() - begin
            for stream, token in zip(streams, rows[:, 0].tolist()):
                stream.take(token, now)
        return streams

    def _run(self, ids: Sequence[int]) -> int:
        rows = torch.tensor([ids])
        out = self.model(rows, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return int(out.logits[0, -1].argmax())


if __name__ == "__main__":
    serve(Transformers)
