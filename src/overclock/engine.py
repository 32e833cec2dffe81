"""The face of a language model: text in, text out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, overload
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from overclock import prompts
from overclock.asking import DEFAULT_MAX_TOKENS, Asking, Options
from overclock.clock.clock import Clock
from overclock.clock.completion import Completion, Piece
from overclock.clock.request import Generate, Score
from overclock.clock.settings import ClockSettings
from overclock.driver import Driver
from overclock.errors import InputError, OverloadError
from overclock.kv_plan import plan_kv
from overclock.machine import choose
from overclock.machine.adapters import ranks
from overclock.machine.choose import MachineName
from overclock.machine.machine import Machine
from overclock.model.load import load
from overclock.model.model import Model
from overclock.model.source import Progress
from overclock.program.compiler import compile
from overclock.program.program import KvFormat, Program
from overclock.reply import Reply, encoded
from overclock.trace.loading import Loading
from overclock.visible import Visible

if TYPE_CHECKING:
    from overclock.model.adapter import Adapter

DEFAULT_CONTEXT = 8192
"""Most tokens of a request unless more is asked for, if the model allows as many."""

PREFIX_TRIES = 3
"""Times that a prefix is run until its pages are there to be read: others may need their room."""

SCORE_BYTES = 64 << 20
"""Most memory of a block of logits that `score` gives."""


class LLMOptions(TypedDict, total=False):
    """What `LLM` takes beside the model; the meaning stands there."""

    threads: int | None
    exact: bool
    kv: KvFormat
    context: int | None
    kv_memory: int | None
    settings: ClockSettings | None
    draft: str | Path | Model | None
    adapters: Mapping[str, str | Path] | None
    machine: MachineName
    progress: Progress | None
    live: bool | None


class LLM(Visible):
    """A language model on a machine. Requests from any number of threads run together.

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
        kv_memory: int | None = None,
        settings: ClockSettings | None = None,
        draft: str | Path | Model | None = None,
        adapters: Mapping[str, str | Path] | None = None,
        machine: MachineName = "native",
        progress: Progress | None = None,
        live: bool | None = None,
    ) -> None:
        """Load and compile `model`: an alias, a path, ``pypi:…``, ``hf:…``, or one loaded already.

        threads: None for all cores that this process may use
        exact: activations stay in f32; slower, and what correctness is judged by
        kv: format of the KV cache
        context: most tokens of a prompt with its answer; None for the model's own, at most 8,192
        kv_memory: bytes for the KV pages of all requests; None for a quarter of what is free.
            `LLM.kv` tells what was chosen
        settings: how many requests run at once, and how they share the machine
        adapters: directories of LoRA adapters by the names under which requests choose them
        draft: a small model of the same vocabulary whose guesses speed the large one up
        progress: is told how a fetch goes, if the model is not on this computer yet
        live: whether `overclock top` sees it; None for what OVERCLOCK_LIVE says (1 or 0)

        Raises SourceError or ModelError if the model cannot be had or used, InputError if it is no
        language model or a value is impossible, MachineError if there is not enough memory.
        """
        self.loading = Loading()
        with self.loading.part("files"):
            self.model = (
                model
                if isinstance(model, Model)
                else load(model, progress=progress, text_later=True)
            )
        if self.model.config.family == "bert":
            raise InputError(f"{self.model.name} is an encoder; open it with Encoder (embed)")
        with self.loading.part("text"):
            self.model.text.get()
        self.context = checked_context(context, self.model)
        self.settings = settings or ClockSettings()
        own = self._load_adapters(adapters) if adapters else []
        with self.loading.part("compile"):
            self.program: Program = compile(
                self.model, exact=exact, adapters={site for each in own for site in each.sites}
            )
        self.kv_format: KvFormat = kv
        self.machine = choose.make(machine, threads, kv)
        self.kv = plan_kv(self.program, kv, self.context, self.settings.streams, kv_memory)
        with self.loading.part("pack weights"):
            self.machine.load(self.program, self.model.weights, pages=self.kv.pages)
        if own:
            self.machine.set_adapters(own)
        self.ranks = ranks(self.program, own)
        small = None
        if draft is not None:
            small = choose.make(machine, threads, kv)
            self._load_draft(small, draft, progress)
        self.load_s = self.loading.done()
        self.clock = self._new_clock(small)
        numbers = {adapter.name: number for number, adapter in enumerate(own, 1)}
        self.asking = Asking(self.model, self.context, numbers)
        self.driver = Driver(self.clock)
        self._stop = finalize(self, self.driver.stop)
        self._show_if(live)

    def _load_adapters(self, adapters: Mapping[str, str | Path]) -> list[Adapter]:
        from overclock.model.adapter import load_adapter

        return [load_adapter(Path(path), self.model, name) for name, path in adapters.items()]

    def _load_draft(
        self, small: Machine, draft: str | Path | Model, progress: Progress | None
    ) -> None:
        model = draft if isinstance(draft, Model) else load(draft, progress=progress)
        program = draft_program(model, self.model, self.context, self.program.exact)
        small.load(program, model.weights, pages=self.kv.pages)

    def _new_clock(self, small: Machine | None) -> Clock:
        return Clock(
            self.machine,
            self.program,
            self.kv.pages,
            context=self.context,
            settings=self.settings,
            load_s=self.load_s,
            draft=small,
        )

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
        stream: bool = False,
        **options: Unpack[Options],
    ) -> Completion | list[Completion] | Generator[Piece]:
        """Continue `prompt`: text, token ids, messages, or a list of these, which run together.

        max_tokens: most tokens of the answer; fewer if the context has no room for them
        stream: return pieces as they come; the last one carries the Completion
        options: how tokens are chosen (`overclock.clock.sampling.Sampling`; the default is greedy)
            and the rest (`overclock.asking.Own`)

        Returns a Completion, a list of them for a list, or an iterator of pieces. Raises InputError
        for a value or prompt that is not possible, before anything is run.
        """
        if not prompts.is_batch(prompt):
            if stream:
                return _pieces(self._alone(prompt, max_tokens, stream, options))
            return self._alone(prompt, max_tokens, stream, options).result()
        if stream:
            raise InputError("only one prompt can be streamed; give the prompts one by one")
        return self._all([self.asking.request(each, max_tokens, **options) for each in prompt])

    def choices(
        self,
        prompt: prompts.Prompt,
        count: int,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        **options: Unpack[Options],
    ) -> list[Completion]:
        """`count` answers to one prompt, which is run once; each next one has the next seed."""
        return self._all(self.asking.choices(prompt, count, max_tokens, **options))

    def submit(
        self,
        prompt: prompts.Prompt,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        *,
        stream: bool = True,
        **options: Unpack[Options],
    ) -> Reply:
        """Hand a request in and go on; `generate` says what it takes.

        stream: whether the reply gives pieces as they come, or only the whole

        Raises InputError as `generate` does, and OverloadError if too many requests wait.
        """
        request = self.asking.request(prompt, max_tokens, stream=stream, **options)
        return Reply(self.driver, request, self)

    def score(self, token_ids: prompts.Ids) -> Iterator[NDArray[np.float32]]:
        """What the model expects after every token: logits in blocks ``f32[n, V]``, in order.

        A block takes at most 64 MiB. Raises InputError for ids out of range or more than the
        context holds.
        """
        ids = self.asking.ids(np.asarray(token_ids))
        rows = max(1, SCORE_BYTES // (4 * self.model.config.vocabulary))
        return self._scores(ids, min(rows, self.settings.tick_tokens))

    def save_prefix(self, prompt: prompts.Prompt, path: str | Path) -> int:
        """Run `prompt` and write its KV pages to a file, for `load_prefix`; how many tokens it has.

        A system prompt that is prepared so starts at once. Raises InputError if the prompt is not
        possible, the file cannot be written, or prefixes are not shared.
        """
        from overclock import kv_file

        ids = self.asking.ids(prompt)
        for _ in range(PREFIX_TRIES):
            Reply(self.driver, Generate(token_ids=ids, max_tokens=1), self, alone=True).result()
            with self.driver.between_ticks():
                pages = self.clock.read_prefix(ids)
            if pages is not None:
                kv_file.save(Path(path), kv_file.Prefix(ids, pages), self._fingerprint())
                return len(ids)
        raise InputError(
            "the prompt's KV pages did not stay: the settings share no prefixes, or kv_memory is "
            "too small for what else runs"
        )

    def load_prefix(self, path: str | Path) -> int:
        """Take the KV pages of a prefix from a file; how many tokens it has.

        Requests that begin with it do not run it. It stays as long as other pages that nobody
        uses. Raises InputError if the file is not there, fits another model, mode or KV format, or
        finds no room; ModelError if it is damaged.
        """
        from overclock import kv_file

        prefix = kv_file.load(
            Path(path), self._fingerprint(), self.program.vocabulary, self.machine.page_bytes
        )
        with self.driver.between_ticks():
            if not self.clock.write_prefix(prefix.tokens, prefix.pages):
                raise InputError(
                    f"there is no room for the {len(prefix.tokens)} tokens of {path} now; wait for "
                    "requests to end, or open the model with more kv_memory"
                )
        return len(prefix.tokens)

    def encode(self, prompt: prompts.Prompt) -> list[int]:
        """The tokens of a prompt, as `generate` takes them. Raises InputError if there are none."""
        return prompts.to_ids(self.model, prompt)

    def close(self) -> None:
        """Take no more requests. Those on their way may still end; then the memory comes back."""
        self.driver.close()
        self.hide()

    def _scores(self, ids: list[int], rows: int) -> Iterator[NDArray[np.float32]]:
        for first in range(0, len(ids), rows):
            request = Score(token_ids=ids[: first + rows], first=first)
            yield encoded(self.driver, [request])[0]

    def _fingerprint(self) -> bytes:
        from overclock import kv_file

        return kv_file.fingerprint(self.model, self.program, self.kv_format)

    def _alone(self, prompt: object, max_tokens: int, stream: bool, options: Options) -> Reply:
        request = self.asking.request(prompt, max_tokens, stream=stream, **options)
        return Reply(self.driver, request, self, alone=True)

    def _all(self, requests: list[Generate]) -> list[Completion]:
        """Run requests together, however many, without filling the queue for others."""
        replies: list[Reply] = []
        read = 0
        try:
            for request in requests:
                while len(replies) - read >= self.settings.streams + self.settings.queue // 2:
                    replies[read].result()
                    read += 1
                replies.append(self._patiently(request))
            return [reply.result() for reply in replies]
        finally:  # if one failed, nobody reads the others
            for reply in replies:
                reply.cancel()

    def _patiently(self, request: Generate) -> Reply:
        while True:
            try:
                return Reply(self.driver, request, self)
            except OverloadError as error:
                sleep(min(error.retry_after_s, 1.0))


def draft_program(small: Model, large: Model, context: int, exact: bool) -> Program:
    """The program of a draft model. Raises InputError if it cannot guess for `large`."""
    if small.config.family == "bert":
        raise InputError(f"{small.name} is an encoder; a draft model is a language model")
    tokens, others = (
        [model.tokenizer.token(id) for id in range(model.config.vocabulary)]
        for model in (large, small)
    )
    if tokens != others:
        raise InputError(
            f"{small.name} has other tokens than {large.name}; a draft model needs the same "
            "vocabulary"
        )
    if small.config.context < context:
        raise InputError(
            f"{small.name} has a context of {small.config.context} tokens; open the model with "
            f"a context of so many, not {context}"
        )
    return compile(small, exact=exact)


def _pieces(reply: Reply) -> Generator[Piece]:
    """The pieces of a reply; left before its end, it is cancelled."""
    try:
        yield from reply
    finally:
        reply.cancel()


def checked_context(context: int | None, model: Model) -> int:
    """Most tokens of a request, as `LLM` takes it. Raises InputError for more than there can be."""
    if context is None:
        return min(model.config.context, DEFAULT_CONTEXT)
    if type(context) is not int or not 1 <= context <= model.config.context:
        raise InputError(
            f"context is {context!r}; {model.name} allows 1 to {model.config.context} tokens"
        )
    return context
