"""How complete the account is, what it costs, and how well the cost model predicts.

    python benchmarks/account.py [--only SECTION] [--rounds 5] [--json FILE] [--save]

Sections: accounted (share of wall time that is explained), overhead (traced against untraced, in
turns), model (cost model against the machine on shapes that it was not made from: batch × context ×
three weight formats, both models), whatif (predicted speed-ups against measured ones, in turns).
Every prediction is measured in the same run, on the computer at hand.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

from common import add_report_options, compare, interleave, report, summarize, table
from overclock.applying import base_case, stages_of, try_case
from overclock.encoder import Encoder
from overclock.engine import LLM
from overclock.machine import limits
from overclock.machine.choose import make
from overclock.model.formats import Format
from overclock.model.load import load
from overclock.model.model import Model
from overclock.predict import variants
from overclock.predict.calibrate import calibrate
from overclock.predict.changes import changes
from overclock.predict.kernels import Lengths
from overclock.predict.measure import Bench, Shape, compile_probe, kinds_of, pages_for
from overclock.predict.predictor import Predictor
from overclock.predict.whatif import Oracle
from overclock.tracing import trace_answer, trace_streams, trace_texts, watching

SECTIONS = ("accounted", "overhead", "model", "whatif")

PROMPT = "Explain in a few sentences why the sky is blue and why sunsets are red."
TEXT = "The quick brown fox jumps over the lazy dog while the band plays on. " * 6
TOKENS = 64

BATCHES = (1, 3, 7, 14, 26, 32)
CONTEXTS = (16, 90, 450, 1100, 2000)
LENGTHS = (16, 60, 200, 480)

Rows = list[Sequence[object]]


def accounted(llm: LLM, encoder: Encoder, rounds: int) -> tuple[Rows, dict[str, object]]:
    """Shares of wall time that stages and instructions add up to."""
    kinds: dict[str, Callable[[], dict[str, object]]] = {
        "run": lambda: trace_answer(llm, [{"role": "user", "content": PROMPT}], TOKENS)[0],
        "8 streams": lambda: trace_streams(llm, PROMPT, TOKENS, 8),
        "32 streams": lambda: trace_streams(llm, PROMPT, TOKENS, 32),
        "encoder, 32 texts": lambda: trace_texts(encoder, [TEXT] * 32),
    }
    found = {
        name: [float(str(traced()["accounted_share"])) for _ in range(rounds)]
        for name, traced in kinds.items()
    }
    rows: Rows = [
        (name, f"{statistics.median(values):.2%}", f"{min(values):.2%}")
        for name, values in found.items()
    ]
    return rows, dict(found)


def overhead(llm: LLM, encoder: Encoder, rounds: int) -> tuple[Rows, dict[str, object]]:
    """Seconds of the same work with and without an observer that wants all details."""

    def answer() -> None:
        llm.generate(PROMPT, TOKENS, ignore_eos=True, reuse_prefix=False, speculation="off")

    def streams() -> None:
        prompts = [f"{number} {PROMPT}" for number in range(8)]
        llm.generate(prompts, TOKENS, ignore_eos=True, reuse_prefix=False, speculation="off")

    def texts() -> None:
        encoder.embed([TEXT] * 32)

    rows: Rows = []
    figures: dict[str, object] = {}
    engines: dict[str, tuple[LLM | Encoder, Callable[[], None]]] = {
        "run": (llm, answer),
        "8 streams": (llm, streams),
        "encoder": (encoder, texts),
    }
    for name, (engine, work) in engines.items():
        times = interleave(
            {"off": _timer(work), "on": _traced_timer(engine, work)}, 4 * rounds, pause=0.0
        )
        ratio = compare(times["on"], times["off"])
        cost = [on / off - 1 for on, off in zip(times["on"], times["off"], strict=True)]
        spread = summarize(cost)
        rows.append((name, f"{spread.median:+.2%}", f"{spread.low:+.2%} … {spread.high:+.2%}"))
        figures[name] = {"cost": spread, "ratio": ratio}
    return rows, figures


def _timer(work: Callable[[], None]) -> Callable[[int], float]:
    def measure(_: int) -> float:
        began = perf_counter()
        work()
        return perf_counter() - began

    return measure


def _traced_timer(engine: LLM | Encoder, work: Callable[[], None]) -> Callable[[int], float]:
    plain = _timer(work)

    def measure(repetition: int) -> float:
        with watching(engine.clock, engine.driver):
            return plain(repetition)

    return measure


def cost_model(decoder: Model, encoder: Model, threads: int) -> tuple[Rows, dict[str, object]]:
    """Errors of whole runs on shapes that no formula was made from."""
    rows: Rows = []
    figures: dict[str, object] = {}
    everything: list[float] = []
    for name, model, int8 in _formats(decoder, encoder):
        errors = dict(_errors(model, threads, int8))
        sizes = [abs(error) for error in errors.values()]
        everything += sizes
        worst = max(errors, key=lambda shape: abs(errors[shape]))
        rows.append(
            (
                name,
                len(errors),
                f"{statistics.median(sizes):.1%}",
                f"{errors[worst]:+.1%} at {worst}",
            )
        )
        figures[name] = errors
    middle = statistics.median(everything)
    rows.append(("all", len(everything), f"{middle:.1%}", f"{max(everything):.1%}"))
    return rows, figures


def _formats(decoder: Model, encoder: Model) -> Iterator[tuple[str, Model, bool]]:
    yield f"{decoder.name} as it is", decoder, False
    for format in (Format.Q8_0, Format.F16):
        yield f"{decoder.name} {format}", variants.with_format(decoder, format), False
    yield f"{encoder.name} as it is", encoder, False
    yield f"{encoder.name} int8", encoder, True
    yield f"{encoder.name} F16", variants.with_format(encoder, Format.F16), False


def _errors(model: Model, threads: int, int8: bool) -> Iterator[tuple[str, float]]:
    kinds = kinds_of(model, int8=int8)
    program = compile_probe(model, kinds[0])
    book = calibrate([(kind, program) for kind in kinds], "f16", threads)
    known = limits.load_or_measure(threads)
    shapes = _shapes(bool(program.caches))
    pages = pages_for(shapes) if program.caches else 0
    bench = Bench(make("native", threads), model, program, known, threads, "f16", pages)
    predictor = Predictor(program, "f16", book, known, bench.output)
    for shape in shapes:
        lengths, contexts, _ = shape
        label = f"{len(lengths)} × {contexts[0] or lengths[0]}"
        yield label, predictor.seconds(Lengths.of(*shape)) / bench.seconds(shape) - 1


def _shapes(is_decoder: bool) -> list[Shape]:
    if is_decoder:
        return [([1] * count, [past] * count, count) for count in BATCHES for past in CONTEXTS]
    return [
        ([length] * count, [0] * count, 0)
        for count in BATCHES
        for length in LENGTHS
        if count * length <= 4096
    ]


def what_if(engine: LLM | Encoder, threads: int) -> tuple[Rows, dict[str, dict[str, float]]]:
    """Predicted and measured speed-ups of changes that can be tried here."""
    is_encoder = isinstance(engine, Encoder)
    base = base_case(
        engine, threads, 8 if is_encoder else 4, 100 if is_encoder else 300, 512, int8=False
    )
    oracle = Oracle(stages_of(engine))
    rows: Rows = []
    figures: dict[str, dict[str, float]] = {}
    for outcome in oracle.outcomes(base, [c for c in changes(base) if c.can_run]):
        tried = try_case(base, outcome.case)
        error = outcome.gain / tried.gain - 1
        name = f"{engine.model.name}: {outcome.case.what}"
        inside = outcome.figures.low <= tried.speed <= outcome.figures.high
        rows.append(
            (
                name,
                f"{outcome.gain:.2f} ×",
                f"{tried.gain:.2f} ×",
                f"{error:+.1%}",
                f"{outcome.figures.speed / tried.speed - 1:+.1%}",
                "yes" if inside else "no",
            )
        )
        figures[name] = {"predicted": outcome.gain, "measured": tried.gain, "error": error}
    return rows, figures


def all_what_ifs(
    engines: Sequence[LLM | Encoder], threads: int
) -> tuple[str, dict[str, dict[str, float]]]:
    """The table of all changes of all engines, and its figures."""
    rows: Rows = []
    figures: dict[str, dict[str, float]] = {}
    for engine in engines:
        more, found = what_if(engine, threads)
        rows += more
        figures |= found
    errors = [abs(each["error"]) for each in figures.values()]
    rows.append(("median error", "", "", f"{statistics.median(errors):.1%}", "", ""))
    heads = ("", "predicted", "measured", "error", "error of speed", "in its interval")
    return table(heads, rows), figures


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--only", action="append", choices=SECTIONS)
    parser.add_argument("--rounds", type=int, default=5)
    add_report_options(parser)
    args = parser.parse_args()
    wanted = args.only or SECTIONS
    threads = limits.usable_cores()
    limits.load_or_measure(threads)
    tables: dict[str, str] = {}
    figures: dict[str, object] = {}
    with LLM(args.model) as llm, Encoder(args.encoder) as encoder:
        if "accounted" in wanted:
            rows, figures["accounted"] = accounted(llm, encoder, args.rounds)
            tables["Accounted for"] = table(("", "median", "lowest"), rows)
        if "overhead" in wanted:
            rows, figures["overhead"] = overhead(llm, encoder, args.rounds)
            tables["Cost of tracing"] = table(("", "median", "quartiles"), rows)
        if "whatif" in wanted:
            tables["What-if against measured speed-ups"], figures["whatif"] = all_what_ifs(
                (llm, encoder), threads
            )
    if "model" in wanted:
        rows, figures["model"] = cost_model(load(args.model), load(args.encoder), threads)
        heads = ("", "shapes", "median error", "worst")
        tables["Cost model on unseen shapes"] = table(heads, rows)
    report(args, "account", tables, figures)


if __name__ == "__main__":
    main()
