"""One answer held to a compiled grammar: which tokens may come next, token after token."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from overclock.clock.grammar_tokens import Tokens, engine_tokenizer
from overclock.errors import InputError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

_MOST_STATES = 50_000  # of a grammar's lexer, about 0.4 kB each, made as texts need them
_FUEL = 200_000  # bounds the lexer's expressions and, at two a byte, text that they force
_TRIED = 64  # forced tokens that are tried before a grammar is found good
_AFTER_SPACE = {"lark_grammar": 'start: " " @inner'}

Program = Mapping[str, object]
"""An entry of llguidance's list of grammars."""

Mask = NDArray[np.uint32]
"""uint32 [ceil(V / 32)]: bit t % 32 of word t // 32 says whether token t may come next."""


class Engine:
    """llguidance with one model's tokens. Costs nothing until it is needed."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def regex(self, pattern: str) -> Program:
        """The program of a regular expression."""
        from llguidance import LLMatcher

        program: Program = json.loads(LLMatcher.grammar_from_regex(pattern))["grammars"][0]
        return program

    def check(self, program: Program, what: str) -> None:
        """Raise InputError if `program` (called `what`) is malformed. Quicker than `compile`."""
        from llguidance import LLMatcher

        message = LLMatcher.validate_grammar(_listed(program), limits=self._limits)
        if message and not message.startswith("WARNING"):
            raise _refusal(what, message)

    def compile(self, program: Program, what: str) -> Compiled:
        """Compile `program`, called `what` in errors.

        Raises:
            InputError: it is malformed, not supported, or no text matches it.
        """
        return Compiled(self, program, what)

    def matcher(self, program: Program, *, after_space: bool) -> LLMatcher:
        """llguidance's state at the beginning of a text, or at that of a text behind a space."""
        from llguidance import LLMatcher

        listed = _listed(program, after_space=after_space)
        return LLMatcher(self._tokenizer, listed, log_level=0, limits=self._limits)

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        return engine_tokenizer(self.tokens)

    @cached_property
    def _limits(self) -> LLParserLimits:
        from llguidance import LLParserLimits

        return LLParserLimits(
            max_lexer_states=_MOST_STATES, initial_lexer_fuel=_FUEL, verbose_errors=False
        )


def _listed(program: Program, *, after_space: bool = False) -> str:
    inner = {**program, "name": "inner"}
    return json.dumps({"grammars": [_AFTER_SPACE, inner] if after_space else [inner]})


class Compiled:
    """A grammar at its beginning, to be copied for each answer.

    The copies share the lexer's automaton, so that an answer profits from those before it.
    """

    def __init__(self, engine: Engine, program: Program, what: str) -> None:
        self._engine = engine
        self._program = program
        self._what = what
        self.tokens = engine.tokens
        self._first = self.fresh(after_space=False)
        if self._first.is_error():
            raise _refusal(what, self._first.get_error())
        forced, complaint = _try(self._first)
        if complaint:
            raise _refusal(what, complaint)
        self._first_after_space = self._behind_space()
        self.forced = forced if self._first_after_space is None else []
        """The tokens that every answer begins with."""

    def _behind_space(self) -> LLMatcher | None:
        if not self.tokens.drops_first_space:
            return None
        spaced = self.fresh(after_space=True)
        _, complaint = _try(spaced)
        return None if complaint else spaced

    def renew(self) -> None:
        """Start with an empty automaton from now on; answers that share the old one keep it."""
        self._first = self.fresh(after_space=False)
        self._first_after_space = self._behind_space()

    def copies(self) -> tuple[LLMatcher, LLMatcher | None]:
        """The beginning, and that behind a space if a space in front of an answer is not shown."""
        spaced = self._first_after_space
        return self._first.deep_copy(), None if spaced is None else spaced.deep_copy()

    def fresh(self, *, after_space: bool) -> LLMatcher:
        """The beginning with an automaton of its own."""
        return self._engine.matcher(self._program, after_space=after_space)

    def failure(self, matcher: LLMatcher) -> InputError:
        """What went wrong in the middle of an answer."""
        return _refusal(self._what, matcher.get_error())


def _try(first: LLMatcher) -> tuple[list[int], str]:
    """The tokens forced at the beginning, and what goes wrong there or behind them, if anything.

    What the automaton learns here, copies of `first` know.
    """
    trial = first.deep_copy()
    forced = trial.compute_ff_tokens()
    trial.compute_bitmask()
    if len(forced) <= _TRIED and trial.consume_tokens(forced):
        trial.compute_bitmask()
    return forced, trial.get_error()


class Constraint:
    """Holds one answer to a grammar. Use it in one thread.

    Ask for the `mask`, choose an allowed token, `push` it, until `finished`. What may come next
    depends on nothing but the tokens pushed so far.

    A text that the grammar leaves no choice about is written with the tokens that the tokenizer
    itself would take, so the model sees what it was trained on; each is the only one allowed.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._words = (compiled.tokens.vocabulary + 31) // 32
        self._matcher, self._spaced = compiled.copies()
        self._is_after_space = False
        self._pushed: list[int] = []
        self._forced = deque(compiled.forced)
        self._mask: Mask | None = None

    def mask(self) -> Mask:
        """uint32 [ceil(V / 32)]: bit t % 32 of word t // 32 is set if token t may come next.

        Not to be written to. Tokens that end a text are allowed where the text may end, and
        nothing else is when it is finished.

        Raises:
            InputError: the grammar became too complex here, or the vocabulary cannot go on.
        """
        if self._mask is None:
            self._mask = self._next_mask()
        return self._mask

    def push(self, token: int) -> None:
        """Go on behind `token`, which the mask allows.

        Raises:
            InputError: the grammar became too complex here.
        """
        assert self._allows(token), f"the grammar does not allow token {token} here"
        self._pushed.append(token)
        self._choose_opening(token)
        if self._forced:
            self._forced.popleft()
        if not self._matcher.consume_token(token):
            self._matcher = self._again()
        self._mask = None

    @property
    def finished(self) -> bool:
        """Whether the text is complete: nothing may follow, or a token has ended it."""
        return self._matcher.is_stopped()

    def forced(self) -> list[int]:
        """The next tokens if there is no choice about them: each is the only one allowed."""
        self.mask()
        return list(self._forced)

    def _allows(self, token: int) -> bool:
        mask = self.mask()
        return 0 <= token < 32 * self._words and bool(mask[token // 32] >> (token % 32) & 1)

    def _next_mask(self) -> Mask:
        if self._spaced is not None:
            return self._first_mask(self._spaced)
        if self._forced:
            return self._only(self._forced[0])
        mask = self._look()
        if self._matcher.is_error():
            self._matcher = self._again()
            mask = self._look()
        if self._matcher.is_error():
            raise self._compiled.failure(self._matcher)
        return mask

    def _first_mask(self, spaced: LLMatcher) -> Mask:
        """Tokens that begin with a space, where that is not shown, and the others."""
        first = self._compiled.tokens.with_space
        mask = (self._allowed(spaced) & first) | (self._allowed(self._matcher) & ~first)
        for matcher in (spaced, self._matcher):
            if matcher.is_error():
                raise self._compiled.failure(matcher)
        return mask

    def _look(self) -> Mask:
        self._forced.clear()
        self._forced.extend(self._matcher.compute_ff_tokens())
        return self._only(self._forced[0]) if self._forced else self._allowed(self._matcher)

    def _allowed(self, matcher: LLMatcher) -> Mask:
        tokens = self._compiled.tokens
        mask = np.frombuffer(matcher.compute_bitmask(), np.uint32)[: self._words]
        if tokens.ends:
            return mask
        # The end token is made up; the model does not have it.
        mask = mask.copy()
        if tokens.vocabulary % 32:
            mask[-1] &= (1 << tokens.vocabulary % 32) - 1
        return mask

    def _only(self, token: int) -> Mask:
        mask = np.zeros(self._words, np.uint32)
        mask[token // 32] = 1 << token % 32
        return mask

    def _choose_opening(self, token: int) -> None:
        """A first token that begins with a space opens a text behind a space that is not shown."""
        if self._spaced is None:
            return
        word = self._compiled.tokens.with_space[token // 32]
        if word >> (token % 32) & 1:
            self._matcher = self._spaced
            self._is_after_space = True
        self._spaced = None

    def _again(self) -> LLMatcher:
        """The present state with an automaton of its own.

        The shared one may be full from other answers, which is no reason to fail for this one.
        """
        matcher = self._compiled.fresh(after_space=self._is_after_space)
        if not matcher.consume_tokens(self._pushed):
            raise self._compiled.failure(matcher)
        self._compiled.renew()
        return matcher


def _refusal(what: str, message: str) -> InputError:
    """llguidance's complaint as a sentence: its first line, or what its regex parser says."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no reason given"]
    detail = [line for line in lines if line.startswith("error: ")]
    reason = (detail or lines)[0].removeprefix("error: ")
    if reason == "NoExtensionBias":
        reason = "this model can write no text that matches it"
    hint = ""
    if reason.startswith(("Unimplemented keys", "Unknown format", "Unsupported format")):
        hint = '; take it out, or put "x-guidance": {"lenient": true} in the schema to ignore it'
    return InputError(f"{what} cannot be used: {reason}{hint}")
