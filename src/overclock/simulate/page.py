"""A page with what a simulation found: a table and charts in one file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from overclock.simulate.measure import Sample
from overclock.simulate.plot import Axis, Line, Mark, axis, chart
from overclock.simulate.run import Result
from overclock.simulate.sweep import Target

Row = tuple[str, ...]

PERCENTS = [*(0.5 * step for step in range(200)), 99.9]
"""Points of a distribution. The last values would leave no room for the others."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --dim: #667080; --grid: #e4e7eb;
  --paper: #fff; --c0: #1f6feb; --c1: #d1570a; --c2: #1a7f37; --c3: #8250df; --mark: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9198a1; --grid: #2a313c;
  --paper: #0d1117; --c0: #58a6ff; --c1: #f0883e; --c2: #3fb950; --c3: #bc8cff; --mark: #ff7b72; } }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.3rem; } p { color: var(--dim); }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--grid); }
th { white-space: nowrap; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--dim); }
svg .title { font-weight: 600; fill: var(--ink); } svg .right { text-anchor: end; }
svg .middle, svg .name { text-anchor: middle; } svg .note { fill: var(--mark); }
.grid { stroke: var(--grid); fill: none; } .line { fill: none; stroke-width: 2; }
.mark { stroke: var(--mark); stroke-dasharray: 4 3; fill: none; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); }
.c3 { stroke: var(--c3); }
"""


def page(title: str, verdict: str, tables: Sequence[Sequence[Row]], charts: Sequence[str]) -> str:
    """The whole page; the first row of a table is its head."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(verdict)}</p>"
        f"{''.join(map(_table, tables))}"
        f'<div class="charts">{"".join(charts)}</div></body></html>\n'
    )


def of_run(result: Result, target: Target) -> list[str]:
    """The charts of one load: how long requests took, and how many waited."""
    return [
        _distribution("First token", "seconds", result.first, 1.0, target.first),
        _distribution("Gap between tokens", "milliseconds", result.gap, 1e3, target.gap),
        _queue(result),
    ]


def of_sweep(results: Sequence[Result], target: Target) -> list[str]:
    """The charts of several loads, by what came a second."""
    ordered = sorted(results, key=lambda each: each.nominal)
    rates = [each.nominal for each in ordered]
    x = axis("requests/s that come", rates)
    percent = target.percent
    served = Line("served", rates, [each.throughput for each in ordered])
    firsts = [each.first.percentile(percent) for each in ordered]
    gaps = [1e3 * each.gap.percentile(percent) for each in ordered]
    return [
        chart("Throughput", x, axis("requests/s", [*served.ys, *rates]), [served]),
        _by_rate(f"First token, {percent:g} % of requests", "s", x, rates, firsts, target.first),
        _by_rate(
            f"Gap, {percent:g} % of tokens",
            "ms",
            x,
            rates,
            gaps,
            None if target.gap is None else 1e3 * target.gap,
        ),
    ]


def _by_rate(
    title: str,
    unit: str,
    x: Axis,
    rates: Sequence[float],
    values: Sequence[float],
    limit: float | None,
) -> str:
    """A time by rate. The axis ends above the target, since times rise without end."""
    shown = [each for each in values if limit is None or each <= 4 * limit]
    y = axis(unit, [*shown, *([] if limit is None else [1.5 * limit])])
    return chart(title, x, y, [Line(unit, rates, values)], _target(limit))


def _distribution(title: str, unit: str, sample: Sample, scale: float, limit: float | None) -> str:
    xs = [] if sample.is_empty else [scale * each for each in sample.percentiles(PERCENTS)]
    marks = [] if limit is None else [Mark("target", scale * limit, upright=True)]
    x = axis(unit, [*xs, *(1.05 * mark.value for mark in marks)])
    line = Line(title, xs, PERCENTS[: len(xs)])
    return chart(title, x, Axis("%", 0.0, 100.0), [line], marks)


def _queue(result: Result) -> str:
    steps = result.queue_steps
    line = Line("waiting", steps.times, steps.values, is_step=True)
    x, y = axis("seconds", line.xs), axis("requests", line.ys)
    return chart("Requests that wait", x, y, [line])


def _target(limit: float | None) -> list[Mark]:
    return [] if limit is None else [Mark("target", limit)]


def _table(rows: Sequence[Row]) -> str:
    head, *body = rows
    lines = [_row("th", head), *(_row("td", row) for row in body)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Row) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
