"""The face of a language model: text in, text out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, get_ident
from time import perf_counter
from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from overclock import prompts
from overclock.clock.completion import Completion, Piece
from overclock.clock.generation import Generation, Request
from overclock.clock.sampling import Sampling, SamplingOptions
from overclock.clock.sequence import TokenSequence
from overclock.clock.stops import check_stops
from overclock.closing import Closing
from overclock.errors import InputError
from overclock.machine import choose
from overclock.machine.choose import MachineName
from overclock.model.load import load
from overclock.model.model import Model
from overclock.model.source import Progress
from overclock.program.compiler import compile
from overclock.program.program import PAGE_TOKENS, KvFormat, Program

DEFAULT_CONTEXT = 8192
"""Tokens to make room for, if the model allows as many; the memory is taken as it is used."""

DEFAULT_MAX_TOKENS = 256


class Options(SamplingOptions, total=False):
    """What `LLM.generate` takes beside the prompt; the meaning stands there."""

    stop: str | Sequence[str] | None
    ignore_eos: bool
    reuse_prefix: bool


class LLM(Closing):
    """A language model on a machine. It answers one request at a time; threads take turns.

    ::

        with LLM("smollm2") as llm:
            print(llm.generate("The sky is blue because").text)
    """

    def __init__(
        self,
        model: str | Path | Model,
        threads: int | None = None,
        exact: bool = False,
        kv: KvFormat = "f16",
        *,
        context: int | None = None,
        machine: MachineName = "native",
        progress: Progress | None = None,
    ) -> None:
        """Load and compile `model`: an alias, a path, ``pypi:…``, ``hf:…``, or one loaded already.

        threads: None for all cores that this process may use
        exact: activations stay in f32; slower, and what correctness is judged by
        kv: format of the KV cache
        context: most tokens of a prompt with its answer; None for the model's own, at most 8,192
        progress: is told how a fetch goes, if the model is not on this computer yet

        Raises SourceError or ModelError if the model cannot be had or used, InputError if it is no
        language model or a value is impossible, MachineError if there is not enough memory.
        """
        started = perf_counter()
        self.model = (
            model if isinstance(model, Model) else load(model, progress=progress, text_later=True)
        )
        if self.model.config.family == "bert":
            raise InputError(f"{self.model.name} is an encoder; open it with Encoder (embed)")
        self.model.text.get()
        self.context = _checked_context(context, self.model)
        self.program: Program = compile(self.model, exact=exact)
        unit = choose.make(machine, threads, kv)
        pages = -(-self.context // PAGE_TOKENS)
        unit.load(self.program, self.model.weights, pages=pages)
        self._sequence: TokenSequence | None = TokenSequence(
            unit, pages, self.model.config.vocabulary
        )
        self._lock = Lock()
        self._owner: int | None = None
        self.load_s = perf_counter() - started

    @overload
    def generate(
        self,
        prompt: prompts.Prompt,
        max_tokens: int = ...,
        *,
        stream: Literal[False] = ...,
        **options: Unpack[Options],
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompt: prompts.Prompt,
        max_tokens: int = ...,
        *,
        stream: Literal[True],
        **options: Unpack[Options],
    ) -> Generator[Piece]: ...
    @overload
    def generate(
        self,
        prompt: prompts.Batch,
        max_tokens: int = ...,
        *,
        stream: Literal[False] = ...,
        **options: Unpack[Options],
    ) -> list[Completion]: ...

    def generate(
        self,
        prompt: prompts.Prompt | prompts.Batch,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        stream: bool = False,
        reuse_prefix: bool = False,
    ) -> Completion | list[Completion] | Generator[Piece]:
        """Continue `prompt`: text, token ids, messages, or a list of these.

        max_tokens: most tokens of the answer; fewer if the context has no room for them
        temperature … seed: see `overclock.clock.sampling.Sampling`; the default is greedy
        stop: strings that end the answer and are not part of it
        ignore_eos: go on when the model ends its answer
        stream: return pieces as they come; the last one carries the Completion
        reuse_prefix: do not run again what the last request left in the KV pages of this prompt

        Returns a Completion, a list of them for a list, or an iterator of pieces. Raises InputError
        for a value or prompt that is not possible, before anything is run.
        """
        sampling = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        stops = check_stops(stop)
        ends: frozenset[int] = frozenset() if ignore_eos else self.model.tokenizer.eos_ids
        many = prompts.is_batch(prompt)
        if many and stream:
            raise InputError("only one prompt can be streamed; give the prompts one by one")
        requests = [
            self._request(each, max_tokens, sampling, stops, ends, reuse_prefix)
            for each in (prompt if many else [prompt])
        ]
        if stream:
            return self._pieces(requests[0])
        completions = [self._complete(request) for request in requests]
        return completions if many else completions[0]

    def score(self, token_ids: prompts.Ids) -> Iterator[NDArray[np.float32]]:
        """What the model expects after every token: logits in blocks ``f32[n, V]``, in order.

        A block is valid until the next is asked for; a block takes at most 64 MiB. Raises
        InputError for ids out of range or more than the context holds.
        """
        ids = prompts.to_ids(self.model, np.asarray(token_ids))
        self._check_length(ids)
        return self._scores(ids)

    def encode(self, prompt: prompts.Prompt) -> list[int]:
        """The tokens of a prompt, as `generate` takes them. Raises InputError if there are none."""
        return prompts.to_ids(self.model, prompt)

    def close(self) -> None:
        """Give the memory back; the LLM cannot be used any more. A stream may still end."""
        self._sequence = None

    def _request(
        self,
        prompt: object,
        max_tokens: int,
        sampling: Sampling,
        stops: tuple[str, ...],
        ends: frozenset[int],
        reuse_prefix: bool,
    ) -> Request:
        if type(max_tokens) is not int or max_tokens < 1:
            raise InputError(
                f"max_tokens is {max_tokens!r}; it must be a whole number of 1 or more"
            )
        ids = prompts.to_ids(self.model, prompt)
        self._check_length(ids)
        return Request(
            token_ids=ids,
            # The last token of an answer needs no room: it is never run.
            max_tokens=min(max_tokens, self.context - len(ids) + 1),
            sampling=sampling,
            stops=stops,
            ends=ends,
            reuse_prefix=reuse_prefix,
        )

    def _check_length(self, ids: list[int]) -> None:
        if len(ids) > self.context:
            raise InputError(
                f"the prompt has {len(ids)} tokens and the context holds {self.context}; shorten "
                f"it{_larger_context(self.context, self.model)}"
            )

    def _complete(self, request: Request) -> Completion:
        completion = None
        for piece in self._pieces(request):
            completion = piece.completion
        assert completion is not None
        return completion

    def _pieces(self, request: Request) -> Generator[Piece]:
        with self._turn() as sequence:
            yield from Generation(
                sequence,
                request,
                self.model.tokenizer.stream(skip_special=True),
                self.model.config.vocabulary,
                self.load_s,
            ).pieces()

    def _scores(self, ids: list[int]) -> Iterator[NDArray[np.float32]]:
        with self._turn() as sequence:
            sequence.keep(0)
            yield from sequence.score(ids)

    @contextmanager
    def _turn(self) -> Iterator[TokenSequence]:
        """The sequence, for one request. Other threads wait; the same thread cannot."""
        if self._owner == get_ident():
            raise InputError(
                "this LLM is in the middle of a stream; read it to its end or close() it first"
            )
        with self._lock:
            if self._sequence is None:
                raise InputError("this LLM is closed; open it again")
            self._owner = get_ident()
            try:
                yield self._sequence
            finally:
                self._owner = None


def _checked_context(context: int | None, model: Model) -> int:
    if context is None:
        return min(model.config.context, DEFAULT_CONTEXT)
    if type(context) is not int or not 1 <= context <= model.config.context:
        raise InputError(
            f"context is {context!r}; {model.name} allows 1 to {model.config.context} tokens"
        )
    return context


def _larger_context(context: int, model: Model) -> str:
    if context == model.config.context:
        return ""
    return f", or open the model with a context of up to {model.config.context}"
