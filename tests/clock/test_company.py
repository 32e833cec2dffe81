"""On the native machine: an answer is the same to the bit, alone or in any company.

Tokens, text, and every log-probability of an answer and its prompt are compared with those of the
same request in a clock of its own: one at a time, prompts whole, nothing shared, nothing guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from overclock.asking import Asking, Options
from overclock.clock import grammar
from overclock.clock.clock import Clock
from overclock.clock.completion import Completion, Piece
from overclock.clock.request import Generate
from overclock.clock.sequence import Ticket
from overclock.clock.settings import ClockSettings
from overclock.clock.time import VirtualTime
from overclock.machine.native import NativeMachine
from overclock.model.adapter import load_adapter
from overclock.model.load import load
from overclock.model.model import Model
from overclock.program.compiler import compile
from overclock.program.program import KvFormat, Program
from tests.checkpoints import FIXTURES

MOST_PAGES = 40
CONTEXT = 128

BASES = [[5 + (at * step) % 250 for at in range(CONTEXT)] for step in (7, 11)]
REPEATING = [20, 21, 22, 23, 24, 25] * 20


Heard: TypeAlias = dict[Ticket, list[Piece]]
"""The pieces of each request so far."""


class Steps(VirtualTime):
    """A time in which everything takes equally long, so that guesses always pay."""

    def now(self) -> float:
        """A millisecond later than the last time."""
        self.advance(0.001)
        return super().now()


@dataclass(frozen=True)
class Kind:
    """What the tokens may depend on; all else must not matter."""

    exact: bool
    kv: KvFormat


@cache
def model() -> Model:
    return load(FIXTURES / "llama")


@cache
def program(exact: bool) -> Program:
    adapter = load_adapter(FIXTURES / "llama-lora", model(), "lora")
    return compile(model(), exact=exact, adapters=set(adapter.sites))


@cache
def machine(kind: Kind, threads: int, role: str) -> NativeMachine:
    """A loaded machine. Clocks follow one another on it, and find what others left in its pages."""
    loaded = NativeMachine(threads, kind.kv)
    loaded.load(program(kind.exact), model().weights, pages=MOST_PAGES)
    if role == "main":
        loaded.set_adapters([load_adapter(FIXTURES / "llama-lora", model(), "lora")])
    return loaded


@dataclass(frozen=True)
class Ask:
    """A request that can be made again and again."""

    prompt: tuple[int, ...]
    max_tokens: int
    options: tuple[tuple[str, object], ...]

    def request(self) -> Generate:
        options = Options(**dict(self.options))  # type: ignore[typeddict-item]
        return Asking(model(), CONTEXT, {"lora": 1}).request(
            list(self.prompt), self.max_tokens, stream=True, **options
        )


@cache
def alone(ask: Ask, kind: Kind) -> Completion:
    """The answer with nobody else there and nothing to be clever with."""
    plain = ClockSettings(share_prefixes=False, draft_tokens=0, stretch=None)
    clock = Clock(
        machine(kind, 1, "main"), program(kind.exact), MOST_PAGES, context=CONTEXT, settings=plain
    )
    heard: Heard = {clock.submit(ask.request()): []}
    drain(clock, heard)
    return answer(next(iter(heard.values())))


def tick(clock: Clock, heard: Heard) -> None:
    """One tick; what came of it is added to what was heard of each request."""
    for event in clock.tick():
        assert isinstance(event.content, Piece)
        heard[event.ticket].append(event.content)


def drain(clock: Clock, heard: Heard, forgets: int = 0) -> None:
    """Tick until all is done; pages that nobody holds are forgotten every `forgets` ticks."""
    for number in range(20_000):
        if not clock.is_busy:
            break
        if forgets and not number % forgets:
            clock.pages.forget()
        tick(clock, heard)
    assert not clock.is_busy
    clock.check_integrity()
    assert clock.pages.available == clock.pages.count


def answer(pieces: list[Piece]) -> Completion:
    """What the last piece carries."""
    assert pieces[-1].completion is not None
    return pieces[-1].completion


GRAMMARS = [grammar.choice(["abcabcabc", "the the the"]), grammar.regex("[ab]{3,20}(cdcdcd|e)")]


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """Requests whose prompts have much in common, and which want all kinds of things."""
    base = draw(st.sampled_from([*BASES, REPEATING]))
    size = draw(st.sampled_from([1, 2, 31, 32, 33, 50, 64, 65, 100]) | st.integers(1, 120))
    tail = draw(st.lists(st.integers(5, 280), max_size=3))
    options: dict[str, object] = {
        "speculation": draw(st.sampled_from(["auto", "auto", "prompt", "draft", "off"])),
        "ignore_eos": True,
    }
    if draw(st.booleans()):
        options |= {"temperature": 1.0, "seed": draw(st.integers(0, 3)), "top_p": 0.95}
    if draw(st.booleans()):
        options |= {"repetition_penalty": 1.2, "dry_multiplier": 0.5}
    if draw(st.booleans()):
        options |= {"logprobs": 2, "prompt_logprobs": draw(st.sampled_from([None, 1]))}
    if draw(st.integers(0, 3)) == 0:
        options["grammar"] = draw(st.sampled_from(GRAMMARS))
    if draw(st.integers(0, 3)) == 0:
        options["adapter"] = "lora"
    if draw(st.integers(0, 3)) == 0:
        options["reuse_prefix"] = False
    max_tokens = draw(st.sampled_from([1, 2, 5, 40]))
    return Ask(tuple(base[:size] + tail)[:CONTEXT], max_tokens, tuple(options.items()))


def check(clock: Clock, crowd: list[Ask], kind: Kind, ahead: int = 0, forgets: int = 0) -> None:
    """Run a crowd, of which the first `ahead` come a few ticks earlier, and compare all of it."""
    asked: dict[Ticket, Ask] = {}
    heard: Heard = {}
    for number, ask in enumerate(crowd):
        ticket = clock.submit(ask.request())
        asked[ticket], heard[ticket] = ask, []
        for _ in range(3 * (number < ahead)):
            tick(clock, heard)
    drain(clock, heard, forgets)
    for ticket, ask in asked.items():
        found, wanted = answer(heard[ticket]), alone(ask, kind)
        assert found.token_ids == wanted.token_ids
        assert found.text == wanted.text
        assert found.finish_reason == wanted.finish_reason
        assert found.logprobs == wanted.logprobs
        assert found.prompt_logprobs == wanted.prompt_logprobs
        assert "".join(piece.text for piece in heard[ticket]) == wanted.text
        assert [token for each in heard[ticket] for token in each.token_ids] == wanted.token_ids


kinds = st.builds(Kind, st.booleans(), st.sampled_from(["f32", "f16", "i8"]))


@given(
    kind=kinds,
    crowd=st.lists(asks(), min_size=1, max_size=8),
    threads=st.sampled_from([1, 2]),
    pages=st.sampled_from([4, 5, 8, MOST_PAGES]),
    streams=st.sampled_from([1, 3, 8]),
    tick_tokens=st.sampled_from([1, 2, 7, 31, 512]),
    draft_tokens=st.sampled_from([0, 1, 8]),
    drafts=st.booleans(),
    ahead=st.integers(0, 8),
    forgets=st.sampled_from([0, 0, 3, 10]),
)
@settings(max_examples=80)
def test_an_answer_does_not_depend_on_its_company(
    kind: Kind,
    crowd: list[Ask],
    threads: int,
    pages: int,
    streams: int,
    tick_tokens: int,
    draft_tokens: int,
    drafts: bool,
    ahead: int,
    forgets: int,
) -> None:
    clock = Clock(
        machine(kind, threads, "main"),
        program(kind.exact),
        pages,
        context=CONTEXT,
        settings=ClockSettings(streams=streams, tick_tokens=tick_tokens, draft_tokens=draft_tokens),
        time=Steps(),
        draft=machine(kind, threads, "draft") if drafts else None,
    )
    check(clock, crowd, kind, ahead, forgets)


@given(
    kind=kinds,
    seeds=st.lists(st.integers(0, 30), min_size=3, max_size=5, unique=True),
    size=st.integers(1, 31),
    pages=st.sampled_from([4, 5, 6]),
    tick_tokens=st.sampled_from([7, 512]),
    draft_tokens=st.sampled_from([0, 8]),
)
@settings(max_examples=10)
def test_an_answer_that_lost_its_pages_goes_on_as_if_it_had_not(
    kind: Kind, seeds: list[int], size: int, pages: int, tick_tokens: int, draft_tokens: int
) -> None:
    """Short prompts all fit in; their long answers do not."""
    clock = Clock(
        machine(kind, 2, "main"),
        program(kind.exact),
        pages,
        context=CONTEXT,
        settings=ClockSettings(streams=8, tick_tokens=tick_tokens, draft_tokens=draft_tokens),
        time=Steps(),
    )
    options = {"ignore_eos": True, "temperature": 0.7, "logprobs": 1}
    crowd = [
        Ask(tuple(BASES[0][seed:][:size]), 95, tuple((options | {"seed": seed}).items()))
        for seed in seeds
    ]
    check(clock, crowd, kind)
    assert clock.roster.preempted
