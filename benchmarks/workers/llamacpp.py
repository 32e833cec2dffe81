"""llama.cpp through its Python binding, on the GGUF file as it is.

Options: kv=f16|q8_0, flash=0|1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import llama_cpp
import numpy as np
from numpy.typing import NDArray
from worker import Decoder, Settings, Stream, serve, version

BATCH = 512
"""Tokens of prompts in one call; with more, llama.cpp splits them into as many."""


class LlamaCpp(Decoder):
    """Low-level evaluation and argmax: less work in Python than the binding's own generation."""

    version = version("llama-cpp-python")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.batch: Batch | None = None
        self.flash = settings.options.get("flash", "0") == "1"
        kv = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
        kind = kv[settings.options.get("kv", "f16")]
        self.llama = llama_cpp.Llama(
            settings.model,
            n_ctx=settings.context,
            n_batch=BATCH,
            n_threads=settings.threads,
            n_threads_batch=settings.threads,
            flash_attn=self.flash,
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

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Stream]:
        """As its server does: whole prompts first, then one token of each stream a call."""
        batch = self._room(len(prompts), len(prompts[0]) + tokens)
        streams = [Stream() for _ in prompts]
        begin = time.perf_counter()
        for number, ids in enumerate(prompts):
            first = batch.prompt(number, ids)
            streams[number].take(first, time.perf_counter() - begin)
        for position in range(len(prompts[0]), len(prompts[0]) + tokens - 1):
            following = batch.step([stream.ids[-1] for stream in streams], position)
            now = time.perf_counter() - begin
            for stream, token in zip(streams, following):
                stream.take(token, now)
        return streams

    def first_tokens(self, ids: Sequence[int], again: Sequence[int]) -> tuple[float, float]:
        """The binding's own generation keeps of the cache what the next prompt begins with."""
        self.llama.reset()
        begin = time.perf_counter()
        next(iter(self.llama.generate(ids, temp=0.0)))
        middle = time.perf_counter()
        next(iter(self.llama.generate(again, temp=0.0)))
        return middle - begin, time.perf_counter() - middle

    def _room(self, streams: int, tokens: int) -> Batch:
        """An empty context of its own for so many streams of so many tokens."""
        if self.batch is None or (self.batch.streams, self.batch.tokens) != (streams, tokens):
            self.batch = None  # the room of the one before goes first
            threads = self.settings.threads
            self.batch = Batch(self.llama.model, streams, tokens, threads, self.flash)
        self.batch.clear()
        return self.batch

    def _likeliest(self) -> int:
        logits = self.llama._ctx.get_logits()
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self.llama.n_vocab(),))))


class Batch:
    """A context of several sequences, each with cache cells of its own; llama.cpp's own calls."""

    def __init__(
        self, model: llama_cpp.llama_model_p, streams: int, tokens: int, threads: int, flash: bool
    ) -> None:
        self.streams = streams
        self.tokens = tokens
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = streams * -(-tokens // 256) * 256  # its cells are in units of 256
        settings.n_seq_max = streams
        settings.n_batch = settings.n_ubatch = BATCH
        settings.n_threads = settings.n_threads_batch = threads
        settings.flash_attn_type = int(flash)
        self.context = llama_cpp.llama_init_from_model(model, settings)
        if not self.context:
            raise MemoryError(f"llama.cpp makes no context of {settings.n_ctx} tokens")
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, 1)

    def __del__(self) -> None:
        if self.context:
            llama_cpp.llama_batch_free(self.batch)
            llama_cpp.llama_free(self.context)

    def clear(self) -> None:
        """Forget all sequences."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def prompt(self, stream: int, ids: Sequence[int]) -> int:
        """Run one stream's prompt, of at most `BATCH` tokens; its first token."""
        for row, token in enumerate(ids):
            self._put(row, token, row, stream, row + 1 == len(ids))
        return int(self._decode(len(ids), 1)[0])

    def step(self, tokens: Sequence[int], position: int) -> list[int]:
        """Run one token of each stream; the next ones."""
        for stream, token in enumerate(tokens):
            self._put(stream, token, position, stream, True)
        return self._decode(len(tokens), len(tokens)).tolist()

    def _put(self, row: int, token: int, position: int, stream: int, wanted: bool) -> None:
        self.batch.token[row] = token
        self.batch.pos[row] = position
        self.batch.n_seq_id[row] = 1
        self.batch.seq_id[row][0] = stream
        self.batch.logits[row] = wanted

    def _decode(self, rows: int, outputs: int) -> NDArray[np.int64]:
        self.batch.n_tokens = rows
        if code := llama_cpp.llama_decode(self.context, self.batch):
            raise RuntimeError(f"llama_decode returned {code}")
        logits = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, shape=(outputs, self.vocabulary)).argmax(-1)


if __name__ == "__main__":
    serve(LlamaCpp)
