"""One request from its prompt to its last token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from overclock.clock.completion import Completion, FinishReason, Piece, Timing, Usage
from overclock.clock.sampling import Sampler, Sampling
from overclock.clock.sequence import TokenSequence
from overclock.clock.stops import StopWatch
from overclock.model.detokenizer import DetokenizerStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, checked already.

    token_ids: the prompt; stops: strings that end the answer; ends: tokens that end it;
    reuse_prefix: take what the KV pages hold of the prompt instead of running it again
    """

    token_ids: list[int]
    max_tokens: int
    sampling: Sampling
    stops: tuple[str, ...] = ()
    ends: frozenset[int] = frozenset()
    reuse_prefix: bool = False


class Generation:
    """Runs one request."""

    def __init__(
        self,
        sequence: TokenSequence,
        request: Request,
        detokenizer: DetokenizerStream,
        vocabulary: int,
        load_s: float,
    ) -> None:
        self._sequence = sequence
        self._request = request
        self._detokenizer = detokenizer
        self._sampler = Sampler(request.sampling, vocabulary, request.token_ids)
        self._watch = StopWatch(request.stops)
        self._load_s = load_s
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._reason: FinishReason | None = None

    def pieces(self) -> Iterator[Piece]:
        """The answer as it comes; the last piece carries the whole."""
        started = perf_counter()
        cached = self._place_prompt()
        token = self._sampler.choose(self._sequence.extend(self._request.token_ids[cached:]))
        first = perf_counter()
        text = self._take(token)
        while self._reason is None:
            if text:
                yield Piece(text)
            token = self._sampler.choose(self._sequence.step(token))
            text = self._take(token)
        timing = self._timing(started, first, perf_counter(), cached)
        yield Piece(text + self._rest(), self._completion(timing, cached))

    def _place_prompt(self) -> int:
        """Leave in the pages what the prompt shares with them; how many tokens that is."""
        cached = 0
        if self._request.reuse_prefix:
            ids = self._request.token_ids
            cached = min(self._sequence.shared(ids), len(ids) - 1)
        self._sequence.keep(cached)
        return cached

    def _take(self, token: int) -> str:
        """Note a token and whether it is the last; the text that may be shown now."""
        self._tokens.append(token)
        if token in self._request.ends:
            self._reason = "stop"
            return ""
        text = self._watch.push(self._detokenizer.push(token))
        if self._watch.hit:
            self._reason = "stop"
        elif len(self._tokens) >= self._request.max_tokens:
            self._reason = "length"
        if text:
            self._texts.append(text)
        return text

    def _rest(self) -> str:
        """The text that was held back; nothing of it once a stop string has come."""
        rest = "" if self._watch.hit else self._watch.push(self._detokenizer.finish())
        rest += self._watch.finish()
        if self._watch.hit:
            self._reason = "stop"
        self._texts.append(rest)
        return rest

    def _completion(self, timing: Timing, cached: int) -> Completion:
        assert self._reason is not None
        prompt = len(self._request.token_ids)
        usage = Usage(prompt, len(self._tokens), cached)
        return Completion("".join(self._texts), self._tokens, self._reason, usage, timing)

    def _timing(self, started: float, first: float, last: float, cached: int) -> Timing:
        rest = len(self._tokens) - 1
        return Timing(
            load_s=self._load_s,
            first_token_s=first - started,
            prompt_tokens_per_s=(len(self._request.token_ids) - cached) / (first - started),
            generation_tokens_per_s=rest / (last - first) if rest else None,
        )
