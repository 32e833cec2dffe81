"""One request's answer as it grows: its tokens, its text, and when it ends."""

from __future__ import annotations

from overclock.clock.completion import FinishReason, TokenLogprob
from overclock.clock.drafts import PromptLookup
from overclock.clock.request import Generate
from overclock.clock.sampling import sampler
from overclock.clock.stops import StopWatch

FIRST_RATE = 0.7
"""How often a draft model's guess is taken to come true before it was ever asked."""


class Answer:
    """What has been generated for a request.

    finish: why it ended, None as long as it has not
    """

    def __init__(self, request: Generate, vocabulary: int) -> None:
        self.request = request
        self.tokens: list[int] = []
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] | None = None if request.sampling.logprobs is None else []
        self.prompt_logprobs: list[TokenLogprob] | None = (
            None if request.prompt_logprobs is None else []
        )
        self.finish: FinishReason | None = None
        self.drafted = 0
        self.accepted = 0
        self.asked_model = False  # the guesses on their way are those of the draft model
        self.model_rate = FIRST_RATE
        self.sampler = sampler(request.sampling, vocabulary, request.token_ids, request.ends)
        self.lookup: PromptLookup | None = None
        self._watch = StopWatch(request.stops)

    @property
    def is_plain(self) -> bool:
        """Whether its tokens are chosen without anything written in Python in between."""
        return self.request.constraint is None and self.request.processor is None

    def take(self, token: int, *, ahead: int = 0) -> str:
        """Note a token and whether it is the last; the text that may be shown now.

        ahead: how many more were chosen with it; a constraint has gone on to behind them
        """
        request = self.request
        self.tokens.append(token)
        if token in request.ends:
            self.finish = "stop"
            return ""
        text = ""
        if request.detokenizer is not None:
            text = self._watch.push(request.detokenizer.push(token))
            if text:
                self.texts.append(text)
        constraint = request.constraint
        complete = constraint is not None and not ahead and constraint.finished
        if self._watch.hit or complete:
            self.finish = "stop"
        elif len(self.tokens) >= request.max_tokens:
            self.finish = "length"
        return text

    def rest(self) -> str:
        """The text that was held back; nothing of it once a stop string has come."""
        detokenizer = self.request.detokenizer
        if detokenizer is None:
            return ""
        rest = "" if self._watch.hit else self._watch.push(detokenizer.finish())
        rest += self._watch.finish()
        if self._watch.hit and self.finish == "length":
            self.finish = "stop"
        self.texts.append(rest)
        return rest
