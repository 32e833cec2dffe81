"""How what a simulation found is shown: tables, JSON, a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from overclock.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from overclock.simulate.measure import Sample
    from overclock.simulate.run import Result
    from overclock.simulate.sweep import Target
    from overclock.simulate_real import Comparison

Row = tuple[str, ...]


class Quantity(NamedTuple):
    """Numbers of a result, their key in JSON, and what they are shown in."""

    key: str
    name: str
    sample: Sample
    scale: float = 1.0


class Show:
    """Where it goes: to the terminal, or as JSON if that is wanted, and to a page if there is one.

    Raises InputError if the page cannot be written.
    """

    def __init__(self, target: Target, html: Path | None, as_json: bool) -> None:
        self._target = target
        self._html = html
        self._as_json = as_json

    def one(self, result: Result, capacity: float | None) -> None:
        """One load; `capacity` is what can be served, where more came."""
        says = verdict(result, capacity) + self._met(result)
        tables = [_samples(result), _figures(result)]
        if self._html is not None:
            from overclock.simulate import page

            self._write(self._html, says, tables, page.of_run(result, self._target))
        if self._as_json:
            print_json({**record(result), "capacity": capacity})
            return
        click.echo(says)
        for head, *rows in tables:
            click.echo()
            print_table(head, rows)

    def several(self, results: Sequence[Result], says: str, best: Result | None) -> None:
        """Several loads, and which of them was looked for."""
        ordered = sorted(results, key=lambda each: (each.nominal, each.replicas))
        table = [self._heads(), *(self._row(each) for each in ordered)]
        if self._html is not None:
            from overclock.simulate import page

            plots = [] if len({each.replicas for each in ordered}) > 1 else ordered
            charts = page.of_sweep(plots, self._target) if plots else []
            charts += [] if best is None else page.of_run(best, self._target)
            self._write(self._html, says, [table], charts)
        if self._as_json:
            found = None if best is None else record(best)
            print_json({"results": [record(each) for each in ordered], "best": found})
            return
        print_table(table[0], table[1:])
        if says:
            click.echo(says)

    def validated(self, predicted: Result, measured: Result, found: Sequence[Comparison]) -> None:
        """A prediction beside a measurement."""
        says = f"{measured.came} requests in {measured.seconds:.0f} s, simulated and for real"
        table = [("", "predicted", "measured", "", "error"), *(_compared(each) for each in found)]
        if self._html is not None:
            from overclock.simulate import page

            self._write(self._html, says, [table], page.of_run(predicted, self._target))
        if self._as_json:
            comparison = [{**asdict(each), "error": each.error} for each in found]
            both = {"predicted": record(predicted), "measured": record(measured)}
            print_json({"comparison": comparison, **both})
            return
        print_table(table[0], table[1:])
        note(says)

    def _met(self, result: Result) -> str:
        if self._target.first is None and self._target.gap is None:
            return ""
        return f"; the target is {'met' if self._target.is_met(result) else 'missed'}"

    def _heads(self) -> Row:
        percent = f"{self._target.percent:g} %"
        times = ("first token s, 50 %", percent, "gap ms, 50 %", percent)
        return ("requests/s", "replicas", "served/s", "tokens/s", "busy", *times, "waiting", "")

    def _row(self, result: Result) -> Row:
        percents = (50.0, self._target.percent)
        times = [
            *(f"{each:.3f}" for each in result.first.percentiles(percents)),
            *(f"{1e3 * each:.1f}" for each in result.gap.percentiles(percents)),
        ]
        return (
            f"{result.nominal:.4g}",
            f"{result.replicas}",
            f"{result.throughput:.4g}",
            f"{result.tokens_per_second:,.0f}",
            f"{result.busy:.0%}",
            *times,
            f"{result.queue.percentile(self._target.percent):,.0f}",
            self._word(result),
        )

    def _word(self, result: Result) -> str:
        if not result.is_stable:
            return "unstable"
        if self._target.first is None and self._target.gap is None:
            return "stable"
        return "target met" if self._target.is_met(result) else "target missed"

    def _write(
        self, path: Path, says: str, tables: Sequence[Sequence[Row]], charts: Sequence[str]
    ) -> None:
        from overclock.errors import InputError
        from overclock.files import write_atomic
        from overclock.simulate.page import page

        text = page("A load, simulated", says, tables, charts)
        try:
            write_atomic(path, text.encode())
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}") from error


def verdict(result: Result, capacity: float | None) -> str:
    """Whether a load is served as fast as it comes, in one sentence."""
    come = f"{result.rate:.3g} requests/s come"
    if not isfinite(result.rate):
        come = f"{result.came:,} requests come at once"
    if result.is_stable:
        return f"stable: {come}, {result.throughput:.3g} are served"
    refused = f"; {result.refused:,} were refused" if result.refused else ""
    if capacity is not None and capacity > result.rate:
        return (
            f"not steady: {come} and pile up, though about {capacity:.3g} can be served in the "
            f"long run{refused}"
        )
    can = "fewer" if capacity is None else f"about {capacity:.3g}"
    return f"unstable: {come}, {can} can be served; the first token takes ever longer{refused}"


def in_short(result: Result) -> str:
    """One line about a load that was tried."""
    replicas = f" on {result.replicas} replicas" if result.replicas > 1 else ""
    first, gap = result.first.percentile(95), 1e3 * result.gap.percentile(95)
    stable = "" if result.is_stable else ", unstable"
    return (
        f"{result.nominal:.4g} requests/s{replicas}: 95 % of first tokens within {first:.3f} s, "
        f"of gaps within {gap:.1f} ms{stable}"
    )


def record(result: Result) -> dict[str, object]:
    """A result as `--json` prints it; times are in seconds."""
    return {
        "rate": result.rate,
        "nominal_rate": result.nominal,
        "replicas": result.replicas,
        "stable": result.is_stable,
        "requests": result.came,
        "ended": result.ended,
        "refused": result.refused,
        "late": result.late,
        "cut": result.cut,
        "preempted": result.preempted,
        "seconds": result.seconds,
        "throughput": result.throughput,
        "tokens_per_s": result.tokens_per_second,
        "prompt_tokens_per_s": result.prompt_tokens_per_second,
        "busy": result.busy,
        "cached": result.cached,
        "ticks": result.ticks,
        **{each.key: _spread(each.sample) for each in _quantities(result)},
    }


def _spread(sample: Sample) -> dict[str, float]:
    p50, p95, p99 = sample.percentiles((50, 95, 99))
    return {"mean": sample.mean, "p50": p50, "p95": p95, "p99": p99, "max": sample.most}


def _quantities(result: Result) -> list[Quantity]:
    return [
        Quantity("first_token_s", "first token, s", result.first),
        Quantity("gap_s", "gap between tokens, ms", result.gap, 1e3),
        Quantity("latency_s", "whole answer, s", result.latency),
        Quantity("wait_s", "wait for KV pages, s", result.wait),
        Quantity("waiting", "requests that wait", result.queue),
        Quantity("inside", "… that wait or run", result.inside),
        Quantity("kv_share", "KV pages held, %", result.kv, 100),
    ]


def _samples(result: Result) -> list[Row]:
    rows = [
        (each.name, *(f"{each.scale * value:,.4g}" for value in _spread(each.sample).values()))
        for each in _quantities(result)
    ]
    return [("", "mean", "50 %", "95 %", "99 %", "highest"), *rows]


def _figures(result: Result) -> list[Row]:
    counts = {
        "refused": result.refused,
        "late": result.late,
        "longer than the context": result.cut,
        "lost their KV pages for a while": result.preempted,
    }
    return [
        ("requests", f"{result.came:,}"),
        ("served", f"{result.throughput:.4g} requests/s"),
        ("tokens of answers", f"{result.tokens_per_second:,.4g} /s"),
        ("tokens of prompts", f"{result.prompt_tokens_per_second:,.4g} /s"),
        ("… of them cached", f"{result.cached:.0%}"),
        ("busy", f"{result.busy:.1%}"),
        *((name, f"{count:,}") for name, count in counts.items() if count),
    ]


def _compared(each: Comparison) -> Row:
    return (
        each.name,
        f"{each.predicted:,.4g}",
        f"{each.measured:,.4g}",
        each.unit,
        f"{each.error:+.1%}",
    )
