"""`overclock whatif`: what a change would bring, predicted before it is made."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overclock.cli import opening, options
from overclock.cli.output import note, print_json, print_table, progress

if TYPE_CHECKING:
    from overclock.applying import Tried
    from overclock.encoder import Encoder
    from overclock.engine import LLM
    from overclock.predict.whatif import Case, Figures, Oracle, Outcome
    from overclock.trace.ledger import Prediction

MOST_APPLIED = 12

DEFAULT_AT, DEFAULT_PROMPT = 256, 512


class Words(click.ParamType[tuple[str, ...]]):
    """Words with commas between."""

    name = "words"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The words of a text such as F16,Q8_0."""
        return tuple(word.strip() for word in str(value).split(",") if word.strip())


@click.command()
@options.model()
@click.option(
    "--streams",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    metavar="N",
    help="Answers (or texts) at once.",
)
@click.option(
    "--at",
    "at",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of context while they generate; of a text, for an encoder.  [default: 256, or "
    "half of what the model has room for]",
)
@click.option(
    "--prompt",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of the prompt whose speed is shown too.  [default: 512, or what the model has "
    "room for]",
)
@click.option("--int8", is_flag=True, help="An encoder's weights as int8, to begin with.")
@click.option("--weights", type=Words(), metavar="F,…", help="Weight formats, such as F16,Q8_0.")
@click.option("--kv-formats", type=Words(), metavar="F,…", help="KV formats: f32, f16, i8.")
@click.option("--thread-counts", type=options.Counts(), metavar="N,…", help="Numbers of threads.")
@click.option("--stream-counts", type=options.Counts(), metavar="N,…", help="Streams at once.")
@click.option("--contexts", type=Words(), metavar="N,…", help="Tokens of context.")
@click.option("--without-layers", type=options.Counts(), metavar="N,…", help="Layers left out.")
@click.option("--ffn", type=Words(), metavar="X,…", help="Shares of the feed-forward width kept.")
@click.option(
    "--speculation",
    type=Words(),
    metavar="P:N,…",
    help="Guesses that come true with probability P, N a tick, such as 0.7:4.",
)
@click.option("--computer", metavar="SHEET", help="Another computer's `overclock doctor --json`.")
@click.option("--apply", is_flag=True, help="Try here what can be tried, and write the ledger.")
@click.option("--ledger", metavar="FILE", help="The ledger to write.  [default: your own]")
@click.option("--calibrate", is_flag=True, help="Measure the kernels again first.")
@options.engine
@options.as_json
def command(
    model: str,
    streams: int,
    at: int | None,
    prompt: int | None,
    int8: bool,
    weights: tuple[str, ...] | None,
    kv_formats: tuple[str, ...] | None,
    thread_counts: tuple[int, ...] | None,
    stream_counts: tuple[int, ...] | None,
    contexts: tuple[str, ...] | None,
    without_layers: tuple[int, ...] | None,
    ffn: tuple[str, ...] | None,
    speculation: tuple[str, ...] | None,
    computer: str | None,
    apply: bool,
    ledger: str | None,
    calibrate: bool,
    engine: options.EngineOptions,
    as_json: bool,
) -> None:
    """Predict speed, memory and limit with each of many changes, the best first.

    Without a word about changes, those that are worth a look are tried: other formats of weights
    and KV, threads, streams, contexts, layers and width left out, guessing ahead. Kernels are
    measured on this computer the first time, which takes seconds for each weight format.
    """
    asked = {
        "weights": weights,
        "kv": kv_formats,
        "threads": thread_counts,
        "streams": stream_counts,
        "context": None if contexts is None else _numbers("--contexts", contexts),
        "layers": without_layers,
        "ffn": None if ffn is None else _shares("--ffn", ffn),
        "speculation": None if speculation is None else _guesses(speculation),
    }
    parts = {name: values for name, values in asked.items() if values is not None}
    if engine["machine"] != "native" or engine["adapters"] or engine["draft"] is not None:
        raise click.UsageError(
            "predictions are for the native machine and the model alone; leave --machine, "
            "--adapter and --draft out"
        )
    with _opened(model, int8, engine) as opened:
        base, found, oracle = _predict(
            opened, streams, at, prompt, int8, parts, computer, calibrate
        )
    before = oracle.figures(base)
    tried = _apply(base, before.speed, found, ledger) if apply else {}
    if as_json:
        outcomes = [_record(each, tried.get(id(each.case))) for each in found]
        print_json({"base": _base_record(base, oracle), "changes": outcomes})
        return
    _show(base, oracle, found, tried)


def _opened(model: str, int8: bool, engine: options.EngineOptions) -> LLM | Encoder:
    loaded = opening.load(model)
    if loaded.config.family != "bert":
        if int8:
            raise click.UsageError("--int8 is for encoders; name formats with --weights")
        return opening.language_model(loaded, engine)
    threads, exact, machine = engine["threads"], engine["exact"], engine["machine"]
    return opening.encoder(loaded, threads, int8, exact, machine)


def _predict(
    opened: LLM | Encoder,
    streams: int,
    at: int | None,
    prompt: int | None,
    int8: bool,
    parts: Mapping[str, Sequence[object]],
    computer: str | None,
    calibrate: bool,
) -> tuple[Case, list[Outcome], Oracle]:
    from dataclasses import replace

    from overclock.applying import base_case, stages_of
    from overclock.predict.changes import changes
    from overclock.predict.sheet import read_sheet
    from overclock.predict.whatif import Oracle
    from overclock.tracing import threads_of

    sheet = None if computer is None else read_sheet(Path(computer))
    room = opened.model.config.context
    most = room if opened.model.config.family == "bert" else room - 1
    context = _within("--at", at, min(DEFAULT_AT, room // 2), most)
    tokens = _within("--prompt", prompt, min(DEFAULT_PROMPT, room), room)
    threads = threads_of(opened.machine)
    base = base_case(opened, threads, streams, context, tokens, int8=int8)
    cases = changes(base, parts or None) if parts or sheet is None else []
    if sheet is not None:
        what = f"on {sheet.name} with {sheet.threads} threads"
        cases.append(
            replace(base, what=what, group="computer", computer=sheet, threads=sheet.threads)
        )
    stages = stages_of(opened)
    with progress("measuring kernels") as show:
        oracle = Oracle(stages, again=calibrate, progress=show)
        return base, oracle.outcomes(base, cases), oracle


def _apply(base: Case, speed: float, found: list[Outcome], ledger: str | None) -> dict[int, Tried]:
    """Measurements of what can be tried, by the case's identity; each goes into the ledger."""
    from overclock.applying import try_case
    from overclock.errors import OverclockError
    from overclock.trace.ledger import append

    path = None if ledger is None else Path(ledger)
    tried: dict[int, Tried] = {}
    chosen = [each for each in found if each.case.can_run][:MOST_APPLIED]
    with progress("trying changes") as show:
        for number, outcome in enumerate(chosen):
            show(number, len(chosen))
            try:
                measured = tried[id(outcome.case)] = try_case(base, outcome.case)
            except OverclockError as error:
                note(f"{outcome.case.what}: {error}")
                continue
            for prediction in _predictions(outcome, measured):
                append(prediction, path)
    return tried


def _predictions(outcome: Outcome, tried: Tried) -> Iterator[Prediction]:
    """What goes into the ledger for one change that was tried."""
    from overclock.machine import computer
    from overclock.machine.limits import installed_version
    from overclock.trace.ledger import Prediction

    case, figures = outcome.case, outcome.figures
    is_encoder = case.model.config.family == "bert"
    quantities = (
        (
            "texts/s" if is_encoder else "generation tokens/s",
            (figures.speed, figures.low, figures.high),
            tried.speed,
        ),
        ("speed-up", (outcome.gain, outcome.low, outcome.high), tried.gain),
        (
            "memory, bytes",
            (float(figures.memory), 0.98 * figures.memory, 1.02 * figures.memory),
            float(tried.memory),
        ),
    )
    for quantity, (predicted, low, high), measured in quantities:
        yield Prediction(
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            overclock=installed_version(),
            cpu=computer.cpu_name(),
            threads=case.threads,
            model=case.model.name,
            what=case.what,
            quantity=quantity,
            predicted=predicted,
            low=low,
            high=high,
            measured=measured,
            note=f"{case.streams} at once, {case.context} tokens each",
        )


def _show(base: Case, oracle: Oracle, found: list[Outcome], tried: dict[int, Tried]) -> None:
    before = oracle.figures(base)
    unit = "texts/s" if base.model.config.family == "bert" else "tokens/s"
    columns = ["", unit, "interval", "gain", "prompt tokens/s", "memory MB", "limit"]
    columns += ["measured", "its gain", "error of gain"] if tried else []
    first = ("as it is", *_cells(before.speed, before.low, before.high), "1.00 ×", *_rest(before))
    rows: list[tuple[str, ...]] = [(*first, "", "", "") if tried else first]
    for each in found:
        figures = each.figures
        row = (
            each.case.what,
            *_cells(figures.speed, figures.low, figures.high),
            f"{each.gain:.2f} ×",
            *_rest(figures),
        )
        rows.append((*row, *_measured(each, tried.get(id(each.case)))) if tried else row)
    print_table(columns, rows)
    note(
        f"{base.model.name}, {base.streams} at once, {base.context} tokens each, "
        f"{base.threads} threads, KV {base.kv}; nine of ten predictions that were checked lay "
        "within the interval. What a change does to the answers is not said here."
    )
    if any(each.case.computer is not None for each in found):
        note("Predictions for another computer were not checked: its interval is this one's.")


def _cells(speed: float, low: float, high: float) -> tuple[str, str]:
    return f"{speed:,.1f}", f"{low:,.1f}–{high:,.1f}"


def _rest(figures: Figures) -> tuple[str, str, str]:
    prompt = f"{figures.prompt:,.0f}" if figures.prompt else ""
    return prompt, f"{figures.memory / 1e6:,.0f}", f"{figures.speed / figures.limit:.0%}"


def _measured(outcome: Outcome, tried: Tried | None) -> tuple[str, str, str]:
    if tried is None:
        return "", "", ""
    return f"{tried.speed:,.1f}", f"{tried.gain:.2f} ×", f"{outcome.gain / tried.gain - 1:+.1%}"


def _base_record(base: Case, oracle: Oracle) -> dict[str, object]:
    return {
        "model": base.model.name,
        "threads": base.threads,
        "kv": base.kv,
        "streams": base.streams,
        "context": base.context,
        "prompt": base.prompt,
        **asdict(oracle.figures(base)),
    }


def _record(outcome: Outcome, tried: Tried | None) -> dict[str, object]:
    record = {
        "what": outcome.case.what,
        "kind": outcome.case.group,
        "gain": outcome.gain,
        "gain_low": outcome.low,
        "gain_high": outcome.high,
        "limit_share": outcome.figures.speed / outcome.figures.limit,
        **asdict(outcome.figures),
    }
    return record if tried is None else {**record, "measured": asdict(tried)}


def _within(option: str, asked: int | None, default: int, most: int) -> int:
    """So many tokens as were asked for, or the default. Raises InputError for too many."""
    from overclock.errors import InputError

    if asked is None:
        return max(1, default)
    if asked > most:
        raise InputError(f"{option} {asked} is more than the {most} tokens there is room for")
    return asked


def _numbers(option: str, words: tuple[str, ...]) -> tuple[int, ...]:
    if not all(word.isdecimal() and int(word) for word in words):
        raise click.UsageError(f"{option} takes whole numbers above 0 with commas between")
    return tuple(map(int, words))


def _shares(option: str, words: tuple[str, ...]) -> tuple[float, ...]:
    try:
        shares = tuple(map(float, words))
    except ValueError:
        shares = (0.0,)
    if not all(0 < share < 1 for share in shares):
        raise click.UsageError(f"{option} takes numbers between 0 and 1 with commas between")
    return shares


def _guesses(words: tuple[str, ...]) -> tuple[tuple[float, int], ...]:
    found = []
    for word in words:
        chance, _, count = word.partition(":")
        try:
            found.append((float(chance), int(count)))
        except ValueError:
            found.append((-1.0, 0))
    if not all(0 <= chance <= 1 and 1 <= count <= 64 for chance, count in found):
        raise click.UsageError("--speculation takes pairs such as 0.7:4 with commas between")
    return tuple(found)
