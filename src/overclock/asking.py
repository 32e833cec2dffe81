"""What a user asks of a language model, checked and turned into what a clock takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING, TypedDict, Unpack, get_args

from overclock import prompts
from overclock.clock.request import Generate, LogitsProcessor, Speculation
from overclock.clock.sampling import MOST_LOGPROBS, Sampling, SamplingOptions
from overclock.clock.stops import check_stops
from overclock.errors import InputError
from overclock.model.model import Model

if TYPE_CHECKING:
    from overclock.clock.grammar import Grammar, Grammars

DEFAULT_MAX_TOKENS = 256

MOST_STOP_IDS = 1024

MOST_CHOICES = 128


class Own(TypedDict, total=False):
    """What a request may say beside how its tokens are chosen.

    stop: strings that end the answer and are not part of it
    stop_token_ids: tokens that end it
    ignore_eos: go on when the model ends its answer
    reuse_prefix: take from the KV pages what is there of the prompt (the default)
    grammar: what the text must be: see `overclock.clock.grammar`
    logits_processor: ``f(tokens, logits f32[V]) -> logits`` before each token is chosen
    prompt_logprobs: name so many likeliest tokens for each token of the prompt; 0 for none but it
    speculation: where guesses come from; the tokens are the same with all of them
    adapter: name of one of the adapters that the model was opened with
    salt: requests with another salt cannot tell from their speed what this one asked
    keep_special: show special tokens in the text, such as the marks around a tool call
    priority: higher runs first; waiting raises it
    deadline_s: seconds after which the answer ends as far as it came
    """

    stop: str | Sequence[str] | None
    stop_token_ids: Collection[int]
    ignore_eos: bool
    reuse_prefix: bool
    grammar: Grammar | None
    logits_processor: LogitsProcessor | None
    prompt_logprobs: int | None
    speculation: Speculation
    adapter: str | None
    salt: str | None
    keep_special: bool
    priority: int
    deadline_s: float | None


class Options(SamplingOptions, Own, total=False):
    """All that a request may say beside its prompt and `max_tokens`."""


class Asking:
    """Makes requests for one model."""

    def __init__(self, model: Model, context: int, adapters: Mapping[str, int]) -> None:
        """`adapters` are the machine's numbers by their names."""
        self._model = model
        self._context = context
        self._adapters = adapters
        self._grammars: Grammars | None = None

    def request(
        self,
        prompt: object,
        max_tokens: int,
        *,
        stream: bool = False,
        **options: Unpack[Options],
    ) -> Generate:
        """The request for `prompt`. Raises InputError for what is not possible."""
        own = Own(**{key: options.pop(key) for key in Own.__annotations__ if key in options})  # type: ignore[typeddict-item, misc]
        sampling = self._sampling(options)
        stops = check_stops(own.get("stop"))
        ends = self._ends(own)
        _check_max_tokens(max_tokens)
        _check_rest(own)
        began = perf_counter()
        ids = self.ids(prompt)
        tokenize_s = perf_counter() - began
        grammar = own.get("grammar")
        return Generate(
            token_ids=ids,
            # The last token of an answer needs no room: it is never run.
            max_tokens=min(max_tokens, self._context - len(ids) + 1),
            sampling=sampling,
            stops=stops,
            ends=ends,
            detokenizer=self._model.tokenizer.stream(
                skip_special=not own.get("keep_special", False)
            ),
            constraint=None if grammar is None else self.grammars().start(grammar),
            processor=own.get("logits_processor"),
            adapter=self.adapter(own.get("adapter")),
            world=own.get("salt"),
            reuse=own.get("reuse_prefix", True),
            prompt_logprobs=own.get("prompt_logprobs"),
            speculation=own.get("speculation", "auto"),
            priority=own.get("priority", 0),
            deadline_s=own.get("deadline_s"),
            stream=stream,
            tokenize_s=tokenize_s,
        )

    def choices(
        self, prompt: object, count: int, max_tokens: int, **options: Unpack[Options]
    ) -> list[Generate]:
        """Requests for `count` answers to one prompt. With a seed, each next one has the next."""
        if type(count) is not int or not 1 <= count <= MOST_CHOICES:
            raise InputError(f"{count!r} choices are not possible; ask for 1 to {MOST_CHOICES}")
        seed = options.get("seed")
        requests = []
        for number in range(count):
            if seed is not None:
                options["seed"] = seed + number
            requests.append(self.request(prompt, max_tokens, **options))
        return requests

    def ids(self, prompt: object) -> list[int]:
        """The tokens of a prompt. Raises InputError if there are none, or too many."""
        ids = prompts.to_ids(self._model, prompt)
        if len(ids) > self._context:
            raise InputError(
                f"the prompt has {len(ids)} tokens and the context holds {self._context}; shorten "
                f"it{self._larger_context()}"
            )
        return ids

    def grammars(self) -> Grammars:
        """What compiles grammars for this model's tokens."""
        if self._grammars is None:
            from overclock.clock.grammar import Grammars  # most requests need none

            self._grammars = Grammars(self._model.tokenizer, self._model.config.vocabulary)
        return self._grammars

    def adapter(self, name: str | None) -> int:
        """The machine's number of an adapter; 0 for none. Raises InputError for an unknown name."""
        if name is None:
            return 0
        if name not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise InputError(f"there is no adapter {name!r}; this model was opened with {known}")
        return self._adapters[name]

    def _sampling(self, options: SamplingOptions) -> Sampling:
        sampling = Sampling(**options)
        for token in dict(sampling.logit_bias):
            self._check_id("logit_bias", token)
        return sampling

    def _ends(self, own: Own) -> frozenset[int]:
        ids = own.get("stop_token_ids", ())
        if len(ids) > MOST_STOP_IDS:
            raise InputError(f"there are {len(ids)} stop_token_ids; at most {MOST_STOP_IDS} go")
        for token in ids:
            self._check_id("stop_token_ids", token)
        # A grammar's end is the model's end of text: without it there would be no way out.
        keep = not own.get("ignore_eos", False) or own.get("grammar") is not None
        return frozenset(ids) | (self._model.tokenizer.eos_ids if keep else frozenset())

    def _check_id(self, name: str, token: object) -> None:
        vocabulary = self._model.config.vocabulary
        if type(token) is not int or not 0 <= token < vocabulary:
            raise InputError(f"{name} has {token!r}; token ids go from 0 to {vocabulary - 1}")

    def _larger_context(self) -> str:
        most = self._model.config.context
        if self._context == most:
            return ""
        return f", or open the model with a context of up to {most}"


def _check_max_tokens(max_tokens: object) -> None:
    if type(max_tokens) is not int or max_tokens < 1:
        raise InputError(f"max_tokens is {max_tokens!r}; it must be a whole number of 1 or more")


def _check_rest(own: Own) -> None:
    deadline = own.get("deadline_s")
    if deadline is not None and not (isinstance(deadline, (int, float)) and isfinite(deadline)):
        raise InputError(f"deadline_s is {deadline!r}; it must be a number of seconds")
    if deadline is not None and deadline < 0:
        raise InputError(f"deadline_s is {deadline!r}; it must be 0 or more")
    priority = own.get("priority", 0)
    if type(priority) is not int or abs(priority) > 1000:
        raise InputError(f"priority is {priority!r}; it must be a whole number of −1000 to 1000")
    logprobs = own.get("prompt_logprobs")
    if logprobs is not None and (type(logprobs) is not int or not 0 <= logprobs <= MOST_LOGPROBS):
        raise InputError(f"prompt_logprobs is {logprobs!r}; it must be 0 to {MOST_LOGPROBS}")
    speculation = own.get("speculation", "auto")
    if speculation not in get_args(Speculation):
        raise InputError(
            f"speculation is {speculation!r}; it must be one of {', '.join(get_args(Speculation))}"
        )
    salt = own.get("salt")
    if salt is not None and not isinstance(salt, str):
        raise InputError(f"salt is {salt!r}; it must be text")
