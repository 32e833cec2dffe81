"""The choice of the next tokens: many requests at once, or one by one with Python in between."""

from __future__ import annotations

from collections.abc import Sequence as Row
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from overclock.clock.answer import Answer
from overclock.clock.completion import TokenLogprob
from overclock.errors import InputError, MachineError, OverclockError
from overclock.machine.machine import Machine

Logits = NDArray[np.float32]
Chosen = tuple[list[list[int]], list[OverclockError | None]]


class Choosy(Protocol):
    """Chooses tokens. The real one is `Choosing`; without logits, someone else has to."""

    def __call__(
        self, answers: Row[Answer], logits: Logits, rows: Row[int], drafts: Row[list[int]]
    ) -> Chosen:
        """The next tokens of each answer, one at least, and errors."""
        ...

    def logprobs(self, logits: Logits, targets: Row[int], top: int) -> list[TokenLogprob]:
        """How likely each of `targets` is by its row of ``f32[n, V]``, and the `top` likeliest."""
        ...


class Choosing:
    """Chooses tokens from rows of logits."""

    def __init__(self, machine: Machine) -> None:
        """`machine` lends its threads, if it has any."""
        from overclock.machine import native

        self._native = native
        self._machine = machine if isinstance(machine, native.NativeMachine) else None

    def __call__(
        self, answers: Row[Answer], logits: Logits, rows: Row[int], drafts: Row[list[int]]
    ) -> Chosen:
        """The next tokens of each answer, from row `rows[i]` of ``f32[L, V]`` on, and errors.

        An answer with guesses takes a row for each guess that comes true, and one more.
        """
        plain = [i for i, answer in enumerate(answers) if answer.is_plain]
        chosen: list[list[int]] = [[] for _ in answers]
        errors: list[OverclockError | None] = [None] * len(answers)
        if plain:
            found, reasons = self._native.choose(
                [answers[i].sampler for i in plain],
                logits,
                np.array([rows[i] for i in plain], np.int32),
                [drafts[i] for i in plain],
                self._machine,
            )
            for i, each, reason in zip(plain, found, reasons, strict=True):
                chosen[i] = each
                errors[i] = None if reason is None else MachineError(reason)
        if len(plain) < len(answers):
            for i, answer in enumerate(answers):
                if not answer.is_plain:
                    errors[i] = _one_by_one(answer, logits[rows[i] :], drafts[i], chosen[i])
        for answer, tokens in zip(answers, chosen, strict=True):
            if answer.logprobs is not None:
                answer.logprobs += _named(tokens, answer.sampler.take_logprobs())
        return chosen, errors

    def logprobs(self, logits: Logits, targets: Row[int], top: int) -> list[TokenLogprob]:
        """How likely each of `targets` is by its row of ``f32[n, V]``, and the `top` likeliest."""
        found = self._native.logprobs(logits, np.array(targets, np.int32), top)
        return _named(targets, found)


def _one_by_one(
    answer: Answer, rows: Logits, drafts: list[int], chosen: list[int]
) -> OverclockError | None:
    """Choose with a constraint or a hook: each row needs the token before it."""
    try:
        for row, guess in zip(rows, [*drafts, None], strict=False):
            token = _one(answer, row, chosen)
            chosen.append(token)
            if token != guess or _is_over(answer, token):
                return None
    except OverclockError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a user's hook may raise anything; it is its own
        return InputError(f"the logits processor failed: {type(error).__name__}: {error}")
    return None


def _is_over(answer: Answer, token: int) -> bool:
    """Whether nothing may come behind a token, however many guesses have come true."""
    constraint = answer.request.constraint
    return token in answer.request.ends or (constraint is not None and constraint.finished)


def _one(answer: Answer, row: Logits, chosen: list[int]) -> int:
    request = answer.request
    if request.processor is not None:
        tokens = [*request.token_ids, *answer.tokens, *chosen]
        changed = np.ascontiguousarray(request.processor(tokens, row.copy()), np.float32)
        if changed.shape != row.shape:
            raise InputError(
                f"the logits processor returned the shape {changed.shape}, not {row.shape}"
            )
        row = changed
    constraint = request.constraint
    token = answer.sampler.choose_one(row, None if constraint is None else constraint.mask())
    if constraint is not None and token not in request.ends:
        constraint.push(token)
    return token


def _named(
    tokens: Row[int], found: Row[tuple[float, list[tuple[int, float]]]]
) -> list[TokenLogprob]:
    return [
        TokenLogprob(token, logprob, tuple(best))
        for token, (logprob, best) in zip(tokens, found, strict=True)
    ]
