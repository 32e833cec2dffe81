"""What every engine's worker can be asked for, and the loop that answers.

A worker is one process with one engine in it. It reads requests as JSON lines from standard input
and writes answers as JSON lines to standard output; nothing else reaches standard output. Only
one worker computes at a time, the others wait for a line.

    {"task": "prompt", "ids": […]}                  → {"seconds": …}
    {"task": "generate", "ids": […], "tokens": n}   → {"seconds": … for n tokens after the first}
    {"task": "greedy", "ids": […], "tokens": n}     → {"ids": […]}
    {"task": "first_token", "text": "…"}            → {"seconds": …}
    {"task": "streams", "prompts": [[…], …], "tokens": n}
                                                    → {"ids": [[…], …], "times": [[…], …]}
    {"task": "shared_prefix", "ids": […], "again": […]}
                                                    → {"first": …, "second": …}
    {"task": "long_prompt", "prompts": [[…], …], "tokens": n, "after": n, "ids": […]}
                                                    → {"times": [[…], …], "asked": …, "told": …}
    {"task": "embed", "sentences": [[…], …], "calls": n}
                                                    → {"seconds": … for one call, "first": […]}
    {"task": "memory"}                              → {"peak_bytes": …}
    {"task": "matmul", "format": "Q4_1", "outputs": N, "inputs": K, "rows": M, "copies": C}
                                                    → {"seconds": … for one product}

Times are of each token of each stream, in seconds since the request. An answer {"error": "…"} says
why there is none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True)
class Settings:
    """What a worker is started with; `options` are the engine's own."""

    model: str
    threads: int
    context: int
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class Stream:
    """One of several streams: its tokens, and when each came, in seconds since all were asked."""

    ids: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def take(self, token: int, time: float) -> None:
        """Note one more token."""
        self.ids.append(token)
        self.times.append(time)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two prompts begin alike with."""
    return next((n for n, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


class Decoder:
    """An engine that writes text. Every call starts from an empty context."""

    version = "unknown"

    def start(self, ids: Sequence[int]) -> int:
        """Run a prompt and return the likeliest next token."""
        raise NotImplementedError

    def next(self, token: int) -> int:
        """Run one more token and return the likeliest after it."""
        raise NotImplementedError

    def first_token(self, text: str) -> None:
        """From text to the first token, as the engine's own users would call it."""
        raise NotImplementedError

    def greedy(self, ids: Sequence[int], tokens: int) -> tuple[list[int], float]:
        """`tokens` likeliest tokens, no end of text, and the seconds after the first of them."""
        answer = [self.start(ids)]
        begin = time.perf_counter()
        while len(answer) < tokens:
            answer.append(self.next(answer[-1]))
        return answer, time.perf_counter() - begin

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Stream]:
        """`tokens` likeliest tokens of each prompt, no end of text, all at the same time.

        The prompts have one length, so that no engine has to pad.
        """
        raise NotImplementedError

    def first_tokens(self, ids: Sequence[int], again: Sequence[int]) -> tuple[float, float]:
        """Seconds to the first token of one prompt, then of another that begins like it."""
        raise NotImplementedError


class Clocked(Decoder):
    """A decoder that takes requests at any time and does a little for all of them in a step."""

    def submit(self, ids: Sequence[int], tokens: int) -> int:
        """Ask for `tokens` likeliest tokens, no end of text; the request's number, from 0."""
        raise NotImplementedError

    def step(self, wanted: Collection[int]) -> Mapping[int, Sequence[int]]:
        """Do a little for everyone; the tokens that came for some of the wanted requests."""
        raise NotImplementedError

    def first_token_seconds(self, request: int) -> float:
        """From a request to its first token; does what is left to do until then."""
        raise NotImplementedError

    def clear(self) -> None:
        """Finish and forget all requests; the numbers start from 0 again."""
        raise NotImplementedError

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Stream]:
        begin = time.perf_counter()
        streams = {self.submit(ids, tokens): Stream() for ids in prompts}
        self._run(streams, tokens, tokens, begin)
        self.clear()
        return list(streams.values())

    def first_tokens(self, ids: Sequence[int], again: Sequence[int]) -> tuple[float, float]:
        seconds = []
        for prompt in (ids, again):
            seconds.append(self.first_token_seconds(self.submit(prompt, 1)))
            self.clear()
        return seconds[0], seconds[1]

    def interrupted(
        self, prompts: Sequence[Sequence[int]], tokens: int, after: int, ids: Sequence[int]
    ) -> tuple[list[Stream], float, float]:
        """Streams of `tokens` tokens; once each has `after`, a prompt of `ids` arrives.

        Returns the streams, when the prompt was submitted and when its first token came.
        """
        begin = time.perf_counter()
        streams = {self.submit(prompt, tokens): Stream() for prompt in prompts}
        self._run(streams, after, tokens, begin)
        asked = time.perf_counter() - begin
        late = self.submit(ids, 1)
        self._run(streams, tokens, tokens, begin)
        told = asked + self.first_token_seconds(late)
        self.clear()
        return list(streams.values()), asked, told

    def _run(self, streams: Mapping[int, Stream], until: int, tokens: int, begin: float) -> None:
        """Until each stream has `until` tokens; some may then have more, of `tokens` at most."""
        while any(len(stream.ids) < until for stream in streams.values()):
            came = self.step([n for n, stream in streams.items() if len(stream.ids) < tokens])
            now = time.perf_counter() - begin
            for request, ids in came.items():
                for token in ids:
                    streams[request].take(token, now)


class Encoder:
    """An engine that makes sentence embeddings."""

    version = "unknown"

    def embed(self, sentences: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """One vector a sentence of token ids; all sentences have one length."""
        raise NotImplementedError


@dataclass(frozen=True)
class Shape:
    """C matrices of N × K in one format, which one input of K columns is multiplied by in turn.

    Enough copies are together larger than the caches.
    """

    format: str
    outputs: int
    inputs: int
    copies: int


class Kernels:
    """An engine's matrix products by themselves."""

    version = "unknown"
    shape: Shape | None = None

    def load(self, shape: Shape) -> None:
        """Make random matrices. Raises LookupError if the engine has no kernel for the format."""
        raise NotImplementedError

    def run(self, rows: int) -> float:
        """Multiply `rows` rows by each of the matrices; seconds for one of them."""
        raise NotImplementedError


Engine = Decoder | Encoder | Kernels


def answer_decoder(engine: Decoder, request: dict[str, object]) -> dict[str, object]:
    """One request to an engine that writes text."""
    match request:
        case {"task": "prompt", "ids": list(ids)}:
            begin = time.perf_counter()
            engine.start(ids)
            return {"seconds": time.perf_counter() - begin}
        case {"task": "generate", "ids": list(ids), "tokens": int(tokens)}:
            return {"seconds": engine.greedy(ids, tokens + 1)[1]}
        case {"task": "greedy", "ids": list(ids), "tokens": int(tokens)}:
            return {"ids": engine.greedy(ids, tokens)[0]}
        case {"task": "first_token", "text": str(text)}:
            begin = time.perf_counter()
            engine.first_token(text)
            return {"seconds": time.perf_counter() - begin}
    return answer_streams(engine, request)


def answer_streams(engine: Decoder, request: dict[str, object]) -> dict[str, object]:
    """One request of several streams, or of several prompts that have to do with each other."""
    match request:
        case {"task": "streams", "prompts": list(prompts), "tokens": int(tokens)}:
            streams = engine.together(prompts, tokens)
            return {"ids": [s.ids for s in streams], "times": [s.times for s in streams]}
        case {"task": "shared_prefix", "ids": list(ids), "again": list(again)}:
            first, second = engine.first_tokens(ids, again)
            return {"first": first, "second": second}
        case {
            "task": "long_prompt",
            "prompts": list(prompts),
            "tokens": int(tokens),
            "after": int(after),
            "ids": list(ids),
        } if isinstance(engine, Clocked):
            streams, asked, told = engine.interrupted(prompts, tokens, after, ids)
            return {"times": [s.times for s in streams], "asked": asked, "told": told}
    return {"error": f"unknown task {request.get('task')}"}


def answer_encoder(engine: Encoder, request: dict[str, object]) -> dict[str, object]:
    """One request to an engine that makes embeddings."""
    match request:
        case {"task": "embed", "sentences": list(sentences), "calls": int(calls)}:
            vectors = engine.embed(sentences)  # wakes the threads and fills the caches
            begin = time.perf_counter()
            for _ in range(calls):
                engine.embed(sentences)
            seconds = (time.perf_counter() - begin) / calls
            return {"seconds": seconds, "first": [float(value) for value in vectors[0]]}
    return {"error": f"unknown task {request.get('task')}"}


def answer_kernels(engine: Kernels, request: dict[str, object]) -> dict[str, object]:
    """One request to an engine's kernels."""
    match request:
        case {
            "task": "matmul",
            "format": str(name),
            "outputs": int(outputs),
            "inputs": int(inputs),
            "copies": int(copies),
            "rows": int(rows),
        }:
            shape = Shape(name, outputs, inputs, copies)
            if engine.shape != shape:
                engine.load(shape)
                engine.shape = shape
            return {"seconds": engine.run(rows)}
    return {"error": f"unknown task {request.get('task')}"}


def version(package: str) -> str:
    """An installed package's version; packages that run from a checkout have none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "from a checkout"


def serve(load: Callable[[Settings], Engine]) -> None:
    """Load the engine, say so, answer until standard input ends."""
    replies = _take_standard_output()
    settings, text = _settings()
    begin = time.perf_counter()
    engine = load(settings)
    if text is not None and isinstance(engine, Decoder):
        engine.first_token(text)
    hello = {"version": engine.version, "load_seconds": time.perf_counter() - begin}
    print(json.dumps(hello), file=replies, flush=True)
    for line in sys.stdin:
        try:
            reply = _answer(engine, json.loads(line))
        except Exception as error:  # noqa: BLE001 - what an engine throws is its answer
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def _answer(engine: Engine, request: dict[str, object]) -> dict[str, object]:
    if request.get("task") == "memory":
        return {"peak_bytes": _status("VmHWM"), "anonymous_bytes": _status("RssAnon")}
    if isinstance(engine, Decoder):
        return answer_decoder(engine, request)
    if isinstance(engine, Kernels):
        return answer_kernels(engine, request)
    return answer_encoder(engine, request)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _take_standard_output() -> TextIO:
    """Keep standard output for replies; what engines print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _settings() -> tuple[Settings, str | None]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=2304)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--first-token", metavar="TEXT", help="answer this before saying hello")
    args = parser.parse_args()
    options = dict(word.split("=", 1) for word in args.option)
    return Settings(args.model, args.threads, args.context, options), args.first_token
