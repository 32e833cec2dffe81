"""Traces what an engine does: one answer, many at once, or texts through an encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from overclock.clock.clock import Clock
from overclock.clock.completion import Completion
from overclock.driver import Driver
from overclock.encoder import Encoder
from overclock.engine import LLM
from overclock.errors import OverclockError
from overclock.machine import limits
from overclock.machine.limits import Limits
from overclock.machine.machine import Machine
from overclock.machine.native import NativeMachine
from overclock.program.program import KvFormat
from overclock.prompts import Prompt
from overclock.trace.document import Json, Subject, document
from overclock.trace.record import Observer
from overclock.trace.recorder import Recorder

WARM_UP_TOKENS = 4


def trace_answer(
    llm: LLM, prompt: Prompt, tokens: int, *, warm: bool = True
) -> tuple[Json, Completion]:
    """The trace of one answer of at most `tokens` tokens, and the answer.

    warm: answer once before, untraced, so that memory is there and caches are as they will be
    """
    if warm:
        llm.generate(prompt, WARM_UP_TOKENS, reuse_prefix=False)
    with watching(llm.clock, llm.driver) as recorder:
        completion = llm.generate(prompt, tokens, reuse_prefix=False)
        recorder.stop()
    usage = completion.usage
    what = {"prompt_tokens": usage.prompt_tokens, "tokens": usage.completion_tokens}
    return document(_subject(llm, "run", what), recorder, _limits(llm.machine)), completion


def trace_streams(
    llm: LLM, prompt: Prompt, tokens: int, streams: int, *, warm: bool = True
) -> Json:
    """The trace of `streams` answers of `tokens` tokens each, all at once; none shares a prefix."""
    if warm:
        llm.generate(prompt, WARM_UP_TOKENS, reuse_prefix=False)
    with watching(llm.clock, llm.driver) as recorder:
        replies = [
            llm.submit(
                prompt,
                tokens,
                stream=False,
                ignore_eos=True,
                speculation="off",
                salt=f"stream {number}",
            )
            for number in range(streams)
        ]
        for reply in replies:
            reply.result()
        recorder.stop()
    what = {
        "streams": streams,
        "prompt_tokens": sum(each.prompt for each in recorder.requests),
        "tokens": sum(each.tokens for each in recorder.requests),
    }
    return document(_subject(llm, "streams", what), recorder, _limits(llm.machine))


def trace_texts(encoder: Encoder, texts: Sequence[str], *, warm: bool = True) -> Json:
    """The trace of `texts` becoming vectors."""
    if warm:
        encoder.embed(texts)
    with watching(encoder.clock, encoder.driver) as recorder:
        encoder.embed(texts)
        recorder.stop()
    tokens = sum(each.prompt for each in recorder.requests)
    what = {"texts": len(texts), "prompt_tokens": tokens, "tokens": 0}
    subject = _subject_of(encoder, "encoder", what, "f16")
    return document(subject, recorder, _limits(encoder.machine))


@contextmanager
def watching(clock: Clock, driver: Driver) -> Iterator[Recorder]:
    """A recorder that watches a clock as long as this is open; it starts at once."""
    recorder = Recorder()
    with observing(clock, driver, recorder):
        recorder.start()
        yield recorder


@contextmanager
def observing(clock: Clock, driver: Driver, observer: Observer) -> Iterator[None]:
    """Let `observer` watch a clock as long as this is open."""
    with driver.between_ticks():
        clock.watch(observer)
    try:
        yield
    finally:
        with driver.between_ticks():
            clock.unwatch(observer)


def _subject(llm: LLM, kind: str, what: dict[str, int]) -> Subject:
    return _subject_of(llm, kind, what, llm.kv_format)


def _subject_of(engine: LLM | Encoder, kind: str, what: dict[str, int], kv: KvFormat) -> Subject:
    machine = engine.machine
    return Subject(
        kind=kind,
        program=engine.program,
        model=engine.model.name,
        weight_bytes=(
            machine.weight_bytes
            if isinstance(machine, NativeMachine)
            else engine.model.weight_bytes
        ),
        machine="native" if isinstance(machine, NativeMachine) else "reference",
        tier=machine.tier if isinstance(machine, NativeMachine) else "",
        threads=threads_of(machine),
        kv=kv,
        what=what,
        loading=engine.loading,
        load_s=engine.load_s,
    )


def threads_of(machine: Machine) -> int:
    """Threads that a machine computes with."""
    return machine.threads if isinstance(machine, NativeMachine) else 1


def _limits(machine: Machine) -> Limits | None:
    """What this computer can do with the machine's threads; measured now if nobody has before."""
    with suppress(OverclockError, ImportError):
        return limits.load_or_measure(threads_of(machine))
    return None
