"""`overclock simulate`: what a load would be like on this computer, or on another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overclock.cli import opening, options, simulate_options
from overclock.cli.output import note, progress
from overclock.cli.simulate_show import Show, in_short

if TYPE_CHECKING:
    from overclock.cli.simulate_options import LoadOptions, ServerOptions
    from overclock.model.model import Model
    from overclock.simulate.run import Result
    from overclock.simulate.station import Setup
    from overclock.simulate.sweep import Target
    from overclock.simulate.workload import Workload


SEARCH_SECONDS = 120.0
"""Seconds in which requests come where many loads are simulated, unless something else is said."""


class Rates(click.ParamType[tuple[float, ...]]):
    """Numbers above 0 with commas between."""

    name = "rates"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers of a text such as 1,2.5,5."""
        try:
            rates = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            rates = ()
        if not rates or not all(0 < rate < float("inf") for rate in rates):
            self.fail(f"{value!r} must be rates above 0 with commas between, as in 1,2.5,5")
        return rates


@click.command()
@options.model()
@simulate_options.load
@simulate_options.server
@click.option("--sweep", type=Rates(), metavar="R,…", help="Simulate several rates.")
@click.option("--ttft", type=float, metavar="S", help="Target: seconds to the first token.")
@click.option("--gap", type=float, metavar="S", help="Target: seconds between tokens.")
@click.option(
    "--percentile",
    type=float,
    default=95.0,
    show_default=True,
    metavar="P",
    help="Of so many % of requests and tokens the targets are asked.",
)
@click.option(
    "--replicas-for",
    type=float,
    metavar="R",
    help="Find how many such computers serve R requests a second within the targets.",
)
@click.option(
    "--validate", is_flag=True, help="Run a shortened load for real too; print the errors."
)
@click.option(
    "--validate-seconds",
    type=float,
    default=60.0,
    show_default=True,
    metavar="S",
    help="How long requests come then.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with the figures and plots.",
)
@options.as_json
def command(
    model: str,
    load: LoadOptions,
    server: ServerOptions,
    sweep: tuple[float, ...] | None,
    ttft: float | None,
    gap: float | None,
    percentile: float,
    replicas_for: float | None,
    validate: bool,
    validate_seconds: float,
    html: Path | None,
    as_json: bool,
) -> None:
    """Simulate a load: the real clock on a machine that only lets the predicted time pass.

    With --rate, closed arrivals or --trace, one load; with --sweep, several; with --ttft or --gap
    and no rate, the highest rate that meets them; with --replicas-for, how many computers. A load
    that is more than can be served is called unstable, and it is told how much can be.
    """
    from overclock.simulate.sweep import Target

    if sum((sweep is not None, replicas_for is not None, validate)) > 1:
        raise click.UsageError("--sweep, --replicas-for and --validate cannot go together")
    target = Target(ttft, gap, percentile)
    show = Show(target, html, as_json)
    if validate:
        _validate(model, load, server, validate_seconds, show)
        return
    finds = load["rate"] is None and load["trace"] is None and load["arrivals"] != "closed"
    finds = finds and (ttft is not None or gap is not None)
    if load["duration"] is None and (finds or sweep is not None or replicas_for is not None):
        load["duration"] = SEARCH_SECONDS
    rate = replicas_for or (sweep[0] if sweep else 1.0 if finds else None) or load["rate"]
    work = simulate_options.workload(load, rate)
    setup = simulate_options.setup(_decoder(model), server)
    if sweep is not None:
        _sweep(setup, work, sweep, show)
    elif replicas_for is not None:
        _replicas(setup, work, target, show)
    elif finds:
        _highest(setup, work, target, show)
    else:
        _one(setup, work, show)


def _decoder(name: str) -> Model:
    from overclock.errors import InputError

    model = opening.load(name)
    if model.config.family == "bert":
        raise InputError(f"{model.name} is an encoder; only language models are simulated")
    return model


def _one(setup: Setup, work: Workload, show: Show) -> None:
    from overclock.simulate.run import simulate
    from overclock.simulate.sweep import capacity

    with _bar() as tell:
        result = simulate(setup, work, progress=tell)
    show.one(result, None if result.is_stable else capacity(setup, work))


def _sweep(setup: Setup, work: Workload, rates: tuple[float, ...], show: Show) -> None:
    from overclock.simulate.sweep import sweep

    results: list[Result] = []
    with progress("simulating") as tell:
        for result in sweep(setup, work, rates):
            results.append(result)
            tell(len(results), len(rates))
    show.several(results, "", None)


def _highest(setup: Setup, work: Workload, target: Target, show: Show) -> None:
    from overclock.simulate.sweep import highest_rate

    found = highest_rate(setup, work, target, _tell)
    if found.best is None:
        verdict = "no rate meets the target: a request that is alone takes too long already"
    else:
        verdict = f"{found.best.nominal:.3g} requests/s are the most that meet the target"
    show.several(found.tried, verdict, found.best)


def _replicas(setup: Setup, work: Workload, target: Target, show: Show) -> None:
    from overclock.simulate.sweep import fewest_replicas

    found = fewest_replicas(setup, work, target, _tell)
    if found.best is None:
        verdict = "no number of replicas meets the target: a request that is alone takes too long"
    else:
        verdict = f"{found.best.replicas} replicas serve {work.rate:.4g} requests/s"
    show.several(found.tried, verdict, found.best)


def _validate(
    name: str, given: LoadOptions, server: ServerOptions, seconds: float, show: Show
) -> None:
    from overclock.applying import stages_of
    from overclock.engine import LLM
    from overclock.simulate.run import simulate
    from overclock.simulate.tempo import tempo_for
    from overclock.simulate_real import compare, measure, setup_of

    if server["computer"] is not None or server["ideal"]:
        raise click.UsageError(
            "only this computer as it is can be measured here; leave --computer and --ideal out"
        )
    work = simulate_options.workload(given, given["rate"]).within(seconds)
    model = _decoder(name)
    with LLM(
        model,
        server["threads"],
        kv=server["kv"],
        context=server["context"],
        kv_memory=server["kv_memory"],
        settings=simulate_options.settings(server),
        machine=server["machine"],
    ) as llm:
        tempo = tempo_for(model, llm.program, server["kv"], server["threads"], stages_of(llm))
        predicted = simulate(setup_of(llm, tempo, server["kv"]), work)
        with _bar("running for real") as tell:
            measured = measure(llm, work, tell)
    show.validated(predicted, measured, compare(predicted, measured))


def _tell(result: Result) -> None:
    note(in_short(result))


@contextmanager
def _bar(what: str = "simulating") -> Iterator[Callable[[float, float], None]]:
    """A bar of seconds."""
    with progress(what) as tell:
        yield lambda done, total: tell(int(done), int(total))
