"""Logprobs as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from overclock.clock.completion import Completion, TokenLogprob
from overclock.clock.grammar_tokens import Tokens
from overclock.model.model import Model
from overclock.openai.objects import ChatLogprobs, TextLogprobs, TopLogprob


class Spelling:
    """What a model's tokens stand for."""

    def __init__(self, model: Model) -> None:
        self._tokenizer = model.tokenizer
        self._tokens = Tokens(model.tokenizer, model.config.vocabulary)

    def bytes(self, token: int) -> bytes:
        """The bytes that a token puts into a text."""
        return self._tokens.spelled[token]

    def text(self, token: int) -> str:
        """A token as text; a part of a character as its bytes, so that no two look the same."""
        spelled = self.bytes(token)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

    def offsets(self, tokens: Iterable[int], start: int = 0) -> list[int]:
        """How many characters stand before each token; `start` before the first."""
        stream = self._tokenizer.stream(skip_special=True)
        found = []
        for token in tokens:
            found.append(start)
            start += len(stream.push(token))
        return found


def chat_logprobs(spelling: Spelling, answer: Completion) -> ChatLogprobs:
    """The logprobs of an answer for which they were asked."""
    assert answer.logprobs is not None
    shown = answer.logprobs[: _shown(spelling, answer)]
    return {
        "content": [
            {
                **_top(spelling, each.token, each.logprob),
                "top_logprobs": [_top(spelling, *pair) for pair in each.top],
            }
            for each in shown
        ],
        "refusal": None,
    }


def text_logprobs(
    spelling: Spelling, answer: Completion, prompt: Sequence[int], offset: int, answers: bool
) -> TextLogprobs:
    """The logprobs of a continuation for which they were asked.

    prompt: its tokens, if they are to be told too; offset: characters in front of the answer in
    the text; answers: False if only the prompt is to be told
    """
    assert answer.logprobs is not None
    rows: list[TokenLogprob | None] = [None] if prompt else []  # nothing predicts the first token
    rows += (answer.prompt_logprobs or []) if prompt else []
    shown = _shown(spelling, answer) if answers else 0
    rows += answer.logprobs[:shown]
    tokens = [*prompt, *answer.token_ids[:shown]]
    offsets = spelling.offsets(prompt) + spelling.offsets(answer.token_ids[:shown], offset)
    return {
        "tokens": [spelling.text(token) for token in tokens],
        "token_logprobs": [None if row is None else row.logprob for row in rows],
        "top_logprobs": [None if row is None else _likeliest(spelling, row) for row in rows],
        "text_offset": offsets,
    }


def _shown(spelling: Spelling, answer: Completion) -> int:
    """How many tokens are told: not those behind the text of an answer that was stopped."""
    tokens = answer.token_ids
    if answer.finish_reason != "stop":
        return len(tokens)
    end = len(answer.text)
    return sum(offset < end for offset in spelling.offsets(tokens))


def _top(spelling: Spelling, token: int, logprob: float) -> TopLogprob:
    return {
        "token": spelling.text(token),
        "logprob": logprob,
        "bytes": list(spelling.bytes(token)),
    }


def _likeliest(spelling: Spelling, row: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens by their text, and the one that was taken."""
    pairs = [*row.top, (row.token, row.logprob)]
    return {spelling.text(token): logprob for token, logprob in pairs}
