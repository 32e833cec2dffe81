"""What a request's answer must be: the plain loop, one token after the other, with no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock.clock.completion import Completion, FinishReason, TokenLogprob
from overclock.clock.request import Generate, Score
from overclock.clock.sampling import Sampling, sampler
from overclock.errors import OverclockError
from tests.clock.ledger import NOTHING, VOCABULARY, expected_logits

POISON = VOCABULARY - 1
"""No run with this token succeeds."""

DAMAGED = VOCABULARY - 2
"""The logits behind this token are not numbers."""

LETTERS = [
    chr(ord("a") + token) if token < 26 else chr(ord("A") + token - 26)
    for token in range(VOCABULARY)
]


class Letters:
    """A letter for each token; that of every seventh is not certain before the next one."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, id: int) -> str:
        """The text that became certain."""
        self._held += LETTERS[id]
        if id % 7 == 0:
            return ""
        text, self._held = self._held, ""
        return text

    def finish(self) -> str:
        """The rest."""
        return "?" * len(self._held)


@dataclass(frozen=True)
class Expected:
    """The whole answer that a request gets if nobody interferes."""

    tokens: list[int]
    finish: FinishReason

    def text(self, request: Generate, count: int) -> str:
        """The text of the first `count` tokens."""
        return text_of(request, self.tokens[:count])[0]


def expected(request: Generate, *, faults: bool = False) -> Expected:
    """Run a request by itself; faults: on a machine that POISON and DAMAGED trouble."""
    chooser = sampler(request.sampling, VOCABULARY, request.token_ids, request.ends)
    tokens: list[int] = []
    while True:
        history = [*request.token_ids, *tokens]
        if faults and (POISON in history or history[-1] == DAMAGED):
            return Expected(tokens, "error")
        logits = expected_logits(history, request.adapter)
        if request.processor is not None:
            try:
                logits = request.processor(history, logits.copy())
            except ZeroDivisionError:
                return Expected(tokens, "error")
        try:
            tokens.append(chooser.choose_one(logits, None))
        except OverclockError:
            return Expected(tokens, "error")
        if tokens[-1] in request.ends or text_of(request, tokens, is_whole=False)[1]:
            return Expected(tokens, "stop")
        if len(tokens) == request.max_tokens:
            return Expected(tokens, "stop" if text_of(request, tokens)[1] else "length")


def text_of(request: Generate, tokens: Sequence[int], *, is_whole: bool = True) -> tuple[str, bool]:
    """The text of an answer, and whether a stop string is in it.

    is_whole: nothing comes any more, so that what was held back is shown
    """
    if request.detokenizer is None:
        return "", False
    stream = Letters()
    text = ""
    for token in tokens:
        text += "" if token in request.ends else stream.push(token)
        if found := [at for at in map(text.find, request.stops) if at >= 0]:
            return text[: min(found)], True
    if is_whole:
        text += stream.finish()
        if found := [at for at in map(text.find, request.stops) if at >= 0]:
            return text[: min(found)], True
    return text, False


def check_logprobs(request: Generate, completion: Completion) -> None:
    """What was asked about how likely each token was, of the answer and of the prompt."""
    history = [*request.token_ids, *completion.token_ids]
    size = len(request.token_ids)
    wanted = [(completion.logprobs, request.sampling.logprobs, size, len(history))]
    if completion.finish_reason in ("stop", "length"):
        wanted.append((completion.prompt_logprobs, request.prompt_logprobs, 1, size))
    for found, top, first, stop in wanted[request.processor is not None :]:
        assert (found is None) == (top is None)
        for at, each in zip(range(first, stop), found or (), strict=found is not None):
            _check_logprob(each, history[: at + 1], top or 0, request.adapter)


def _check_logprob(found: TokenLogprob, history: list[int], top: int, adapter: int) -> None:
    """Hold it against the logits that `history` without its last token gives."""
    *before, token = history
    wanted = log_softmax(expected_logits(before, adapter))
    assert found.token == token
    assert abs(found.logprob - wanted[token]) < 1e-4
    assert len(found.top) == top
    best = np.sort(wanted)[::-1][:top]
    assert np.allclose([value for _, value in found.top], best, atol=1e-4)
    assert np.allclose([wanted[each] for each, _ in found.top], best, atol=1e-4)


def check_score(request: Score, values: NDArray[np.float32]) -> None:
    """The logits of the tokens from the wanted one on, bit for bit."""
    ends = range(request.first + 1, len(request.token_ids) + 1)
    rows = [expected_logits(request.token_ids[:end], request.adapter) for end in ends]
    assert values.tobytes() == np.array(rows).tobytes()


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logarithms of the probabilities."""
    scores = logits.astype(np.float64) - logits.max()
    result: NDArray[np.float64] = scores - np.log(np.exp(scores).sum())
    return result


def no_threes(tokens: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """A hook that forbids a token, in place."""
    logits[3] = NOTHING * 1000.0
    return logits


def broken(tokens: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """A hook with a mistake in it, that shows itself now and then."""
    logits += 1 // (sum(tokens) % 9) * 0
    return logits


_texts = np.random.default_rng(3).integers(0, DAMAGED, (3, 400)).tolist()


@st.composite
def prompts(draw: st.DrawFn, most: int) -> list[int]:
    """Few beginnings, of any length, and few ends: many prompts have much in common."""
    border = st.sampled_from([0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 128])
    size = min(draw(border | st.integers(0, 130)), most - 1)
    tail = draw(st.lists(st.integers(0, 5), min_size=1, max_size=min(4, most - size)))
    if draw(st.integers(0, 25)) == 0:
        tail[-1] = draw(st.sampled_from([POISON, DAMAGED]))
    return [*draw(st.sampled_from(_texts))[:size], *tail]


@st.composite
def samplings(draw: st.DrawFn) -> Sampling:
    """Greedy, or by chance with a seed."""
    logprobs = draw(st.sampled_from([None, None, 0, 2]))
    if draw(st.booleans()):
        return Sampling(logprobs=logprobs)
    return Sampling(
        logprobs=logprobs,
        min_tokens=draw(st.sampled_from([0, 0, 9])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
        temperature=draw(st.sampled_from([0.3, 1.0, 5.0])),
        top_p=draw(st.sampled_from([None, 0.9])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
        seed=draw(st.integers(0, 5)),
    )


@st.composite
def generates(draw: st.DrawFn, context: int) -> Generate:
    """Requests that fit into `context`."""
    token_ids = draw(prompts(context))
    most = context - len(token_ids) + 1
    return Generate(
        token_ids=token_ids,
        max_tokens=min(most, draw(st.integers(1, 3) | st.integers(1, 70) | st.integers(20, 70))),
        sampling=draw(samplings()),
        stops=draw(st.sampled_from([(), (), (), ("eabcdeabcd", "X"), ("eb", "?"), ("cd",)])),
        ends=draw(st.sampled_from([frozenset(), frozenset({11, 20}), frozenset({4})])),
        detokenizer=Letters() if draw(st.booleans()) else None,
        processor=draw(st.sampled_from([None] * 8 + [no_threes, broken])),
        adapter=draw(st.sampled_from([0, 0, 0, 1])),
        world=draw(st.sampled_from([None, None, "salt"])),
        reuse=draw(st.integers(0, 4)) > 0,
        prompt_logprobs=draw(st.sampled_from([None, None, None, 0, 2])),
        speculation=draw(st.sampled_from(["auto", "auto", "prompt", "draft", "off"])),
        priority=draw(st.integers(-3, 3)),
        deadline_s=draw(st.sampled_from([None] * 6 + [0.0, 0.5, 100.0])),
        stream=draw(st.booleans()),
    )


@st.composite
def scores(draw: st.DrawFn, context: int) -> Score:
    """Requests for logits."""
    token_ids = [token for token in draw(prompts(context)) if token < DAMAGED] or [1]
    return Score(
        token_ids=token_ids,
        first=draw(st.integers(0, len(token_ids) - 1)),
        adapter=draw(st.sampled_from([0, 0, 0, 1])),
        world=draw(st.sampled_from([None, "salt"])),
        deadline_s=draw(st.sampled_from([None, None, 0.5])),
    )
