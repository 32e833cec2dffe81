"""Options of `overclock simulate`: what comes, and what serves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import click

from overclock.cli import options
from overclock.cli.options import Command, bundle

if TYPE_CHECKING:
    from overclock.clock.settings import ClockSettings
    from overclock.machine.choose import MachineName
    from overclock.model.model import Model
    from overclock.program.program import KvFormat, Program
    from overclock.simulate.station import Setup
    from overclock.simulate.tempo import Tempo
    from overclock.simulate.workload import ClosedLoop, OpenLoop, Sizes, Workload

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class LoadOptions(TypedDict):
    """What comes."""

    rate: float | None
    duration: float | None
    arrivals: Literal["poisson", "constant", "burst", "closed"]
    cv: float
    users: int | None
    think: float
    profile: str | None
    prompt: str
    output: str
    prefix_groups: int | None
    prefix_tokens: int
    trace: Path | None
    seed: int


class ServerOptions(TypedDict):
    """What serves it."""

    streams: int
    stretch: float
    tick_tokens: int
    queue: int
    threads: int | None
    kv: KvFormat
    kv_memory: int | None
    context: int | None
    machine: MachineName
    computer: Path | None
    ideal: bool


DURATION = 600.0
"""Seconds in which requests come, unless something else is said."""

_LOAD = (
    click.option("--rate", type=float, metavar="R", help="Requests a second that come."),
    click.option(
        "--duration",
        type=float,
        metavar="S",
        help="Seconds in which they come.  [default: 600, or what the file has]",
    ),
    click.option(
        "--arrivals",
        type=click.Choice(["poisson", "constant", "burst", "closed"]),
        default="poisson",
        show_default=True,
        help="How they come; closed: users ask, wait for the answer, think and ask again.",
    ),
    click.option(
        "--cv",
        type=float,
        default=2.0,
        show_default=True,
        metavar="X",
        help="Of bursts: deviation of the gaps between arrivals, by their mean.",
    ),
    click.option(
        "--users", type=click.IntRange(min=1), metavar="N", help="With closed arrivals: how many."
    ),
    click.option(
        "--think",
        type=float,
        default=5.0,
        show_default=True,
        metavar="S",
        help="With closed arrivals: seconds between an answer and the next question, in the mean.",
    ),
    click.option(
        "--profile",
        metavar="S:F,…",
        help="From S seconds on F times the rate, as in 0:1,600:3; day:4 for one day's ups and "
        "downs.",
    ),
    click.option(
        "--prompt",
        default="lognormal:200,0.8",
        show_default=True,
        metavar="DIST",
        help="Tokens of prompts: fixed:64, uniform:16,256, lognormal:MEAN,CV or any:16,64,64.",
    ),
    click.option(
        "--output",
        default="lognormal:100,0.8",
        show_default=True,
        metavar="DIST",
        help="Tokens of answers, in the same words.",
    ),
    click.option(
        "--prefix-groups",
        type=click.IntRange(min=1),
        metavar="K",
        help="Every prompt begins with one of K texts, of which few are frequent (Zipf).",
    ),
    click.option(
        "--prefix-tokens",
        type=click.IntRange(min=1),
        default=256,
        show_default=True,
        metavar="P",
        help="Their tokens, before those of --prompt.",
    ),
    click.option(
        "--trace",
        type=FILE,
        metavar="FILE",
        help="Recorded requests instead: a JSON object a line with at, prompt_tokens, "
        "output_tokens; or what `overclock trace --json` wrote.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, metavar="N"),
)

_SERVER = (
    click.option(
        "--streams",
        type=click.IntRange(1, 4096),
        default=64,
        show_default=True,
        metavar="N",
        help="Requests that run at once.",
    ),
    click.option(
        "--stretch",
        type=float,
        default=1.6,
        show_default=True,
        metavar="X",
        help="How many times as long prompts may make the gaps between others' tokens.",
    ),
    click.option(
        "--tick-tokens",
        type=click.IntRange(min=1),
        default=512,
        show_default=True,
        metavar="N",
        help="Most tokens of prompts at once.",
    ),
    click.option(
        "--queue",
        type=click.IntRange(min=0),
        default=4096,
        show_default=True,
        metavar="N",
        help="Most requests that wait; more are refused.",
    ),
    options.threads,
    options.kv,
    options.kv_memory,
    options.context,
    options.machine,
    click.option(
        "--computer",
        type=FILE,
        metavar="FILE",
        help="Another computer, as `overclock doctor --json` measured it.",
    ),
    click.option(
        "--ideal", is_flag=True, help="Let every instruction reach the computer's limits."
    ),
)


def load(function: Command) -> Command:
    """`--rate` … `--seed`, given to the command as one `load: LoadOptions`."""
    names = (
        *("rate", "duration", "arrivals", "cv", "users", "think", "profile"),
        *("prompt", "output", "prefix_groups", "prefix_tokens", "trace", "seed"),
    )
    return bundle(function, "load", names, _LOAD)


def server(function: Command) -> Command:
    """`--streams` … `--ideal`, given to the command as one `server: ServerOptions`."""
    names = (
        *("streams", "stretch", "tick_tokens", "queue", "threads", "kv", "kv_memory", "context"),
        *("machine", "computer", "ideal"),
    )
    return bundle(function, "server", names, _SERVER)


def workload(given: LoadOptions, rate: float | None) -> Workload:
    """The load that the options describe, at a rate if it has one.

    Raises UsageError for options that do not go together, InputError for impossible values.
    """
    from overclock.simulate.recorded import read_recorded

    if given["trace"] is not None:
        recorded = read_recorded(given["trace"])
        if given["duration"] is not None:
            recorded = recorded.within(given["duration"])
        return recorded if rate is None else recorded.at_rate(rate)
    if given["arrivals"] == "closed":
        return _closed(given)
    if rate is None:
        raise click.UsageError(
            "say what comes: --rate, --arrivals closed with --users, or --trace; or what is wanted "
            "of the first token or the gap (--ttft, --gap), to find the rate"
        )
    return _open(given, rate)


def _closed(given: LoadOptions) -> ClosedLoop:
    from overclock.simulate.workload import ClosedLoop

    if given["users"] is None or given["rate"] is not None:
        raise click.UsageError("closed arrivals need --users and have no --rate")
    return ClosedLoop(
        users=given["users"],
        think=given["think"],
        duration=_duration(given),
        sizes=_sizes(given),
    )


def _open(given: LoadOptions, rate: float) -> OpenLoop:
    from overclock.simulate.arrivals import FLAT, parse_profile
    from overclock.simulate.workload import OpenLoop

    if given["arrivals"] == "closed" or given["users"] is not None:
        raise click.UsageError("--users goes with --arrivals closed")
    duration = _duration(given)
    profile = FLAT if given["profile"] is None else parse_profile(given["profile"], duration)
    return OpenLoop(
        rate=rate,
        duration=duration,
        process=given["arrivals"],
        cv=given["cv"],
        profile=profile,
        sizes=_sizes(given),
    )


def _sizes(given: LoadOptions) -> Sizes:
    from overclock.simulate.lengths import parse_lengths
    from overclock.simulate.workload import Prefixes, Sizes

    groups = given["prefix_groups"]
    return Sizes(
        prompt=parse_lengths(given["prompt"]),
        output=parse_lengths(given["output"]),
        prefixes=None if groups is None else Prefixes(groups, given["prefix_tokens"]),
        seed=given["seed"],
    )


def _duration(given: LoadOptions) -> float:
    return DURATION if given["duration"] is None else given["duration"]


def settings(given: ServerOptions) -> ClockSettings:
    """What the clock is told. Raises InputError for impossible values."""
    from overclock.clock.settings import ClockSettings

    return ClockSettings(
        streams=given["streams"],
        stretch=given["stretch"],
        tick_tokens=given["tick_tokens"],
        queue=given["queue"],
    )


def setup(model: Model, given: ServerOptions) -> Setup:
    """What serves the load. Raises InputError for impossible values."""
    from overclock.engine import checked_context
    from overclock.kv_plan import plan_kv
    from overclock.program.compiler import compile
    from overclock.simulate.station import Setup

    program = compile(model)
    chosen = settings(given)
    context = checked_context(given["context"], model)
    plan = plan_kv(program, given["kv"], context, chosen.streams, given["kv_memory"])
    return Setup(
        program=program,
        tempo=_tempo(model, program, given),
        pages=plan.pages,
        context=context,
        settings=chosen,
        kv=given["kv"],
    )


def _tempo(model: Model, program: Program, given: ServerOptions) -> Tempo:
    """What tells how long runs take. The clock's own work is measured on the model itself."""
    from overclock.applying import stages_of
    from overclock.engine import LLM
    from overclock.simulate.tempo import ideal_tempo, tempo_for

    kv, threads, computer = given["kv"], given["threads"], given["computer"]
    if given["ideal"]:
        return ideal_tempo(program, kv, threads, computer)
    with LLM(model, None if computer else threads, kv=kv, machine=given["machine"]) as llm:
        stages = stages_of(llm)
    return tempo_for(model, program, kv, threads, stages, computer)
