"""Is a simulation right, and fast? A load at parts of the capacity, simulated and for real.

    python benchmarks/simulate.py [--model MODEL] [--seconds 120] [--threads N] [--save]

Prints the capacity, predicted and measured under a load that is too much; then, at 50, 80 and 95 %
of what was measured, predicted and measured throughput, first tokens and gaps with their errors;
then the wall time of one simulated hour at 10 requests/s, on a computer that can serve them. Run it
on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import time

from common import add_report_options, number, report, table
from overclock.applying import stages_of
from overclock.engine import LLM
from overclock.program.program import KvFormat
from overclock.simulate.lengths import parse_lengths
from overclock.simulate.run import Result, simulate
from overclock.simulate.station import Setup
from overclock.simulate.sweep import capacity
from overclock.simulate.tempo import tempo_for
from overclock.simulate.workload import OpenLoop, Sizes
from overclock.simulate_real import Comparison, compare, measure, setup_of

KV: KvFormat = "f16"
SHARES = (0.5, 0.8, 0.95)
TOO_MUCH = 2.0
HOUR = 3600.0
HOURLY_RATE = 10.0


def errors(llm: LLM, setup: Setup, load: OpenLoop) -> tuple[Result, list[Comparison]]:
    """One load, for real; and how far the prediction of it is off."""
    predicted = simulate(setup, load)
    measured = measure(llm, load)
    return measured, compare(predicted, measured)


def hour(setup: Setup, sizes: Sizes) -> tuple[float, Result]:
    """Wall seconds of a simulated hour, and what it was like."""
    load = OpenLoop(rate=HOURLY_RATE, duration=HOUR, sizes=sizes)
    started = time.perf_counter()
    result = simulate(setup, load)
    return time.perf_counter() - started, result


def row(share: float, each: Comparison) -> tuple[str, str, str, str]:
    """One quantity at one load."""
    name = f"{share:.0%} load: {each.name} ({each.unit})"
    return name, number(each.predicted), number(each.measured), f"{each.error:+.1%}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompt", default="lognormal:100,0.8")
    parser.add_argument("--output", default="lognormal:64,0.8")
    add_report_options(parser)
    args = parser.parse_args()
    sizes = Sizes(prompt=parse_lengths(args.prompt), output=parse_lengths(args.output), seed=1)
    load = OpenLoop(rate=1.0, duration=args.seconds, sizes=sizes)
    with LLM(args.model, args.threads, kv=KV) as llm:
        setup = setup_of(
            llm, tempo_for(llm.model, llm.program, KV, args.threads, stages_of(llm)), KV
        )
        predicted = capacity(setup, load)
        most = measure(llm, load.at_rate(TOO_MUCH * predicted).within(args.seconds / 4)).throughput
        rows = [("capacity", number(predicted), number(most), f"{predicted / most - 1:+.1%}")]
        figures: dict[str, object] = {"capacity": {"predicted": predicted, "measured": most}}
        for share in SHARES:
            measured, found = errors(llm, setup, load.at_rate(share * most))
            rows += [row(share, each) for each in found]
            figures[f"{share:.0%}"] = {each.name: [each.predicted, each.measured] for each in found}
            figures[f"{share:.0%} busy"] = measured.busy
    seconds, result = hour(setup, sizes)
    figures["hour"] = {"seconds": seconds, "ticks": result.ticks, "requests": result.came}
    speed = [
        ("wall time", f"{seconds:.1f} s"),
        ("requests", f"{result.came:,}"),
        ("ticks", f"{result.ticks:,}"),
        ("a tick", f"{1e6 * seconds / result.ticks:.0f} µs"),
        ("steady", "yes" if result.is_stable else "no"),
    ]
    tables = {
        "Prediction and measurement": table(("", "predicted", "measured", "error"), rows),
        "One simulated hour at 10 requests/s": table(("", ""), speed),
    }
    report(args, "simulate", tables, figures)


if __name__ == "__main__":
    main()
