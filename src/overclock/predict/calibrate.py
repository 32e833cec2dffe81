"""Calibrates the cost model on this computer: measures the kernels that are asked about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from overclock.machine import limits
from overclock.machine.choose import make
from overclock.machine.limits import Limits
from overclock.predict import book as books
from overclock.predict.book import Book
from overclock.predict.fit import Sample
from overclock.predict.kernels import Lengths, works
from overclock.predict.measure import (
    Bench,
    Kind,
    Overhead,
    Shape,
    attention_shapes,
    check_model,
    check_shapes,
    compile_probe,
    pages_for,
    probe_models,
    row_shapes,
)
from overclock.predict.predictor import Predictor
from overclock.program.program import KvFormat, Program

Progress = Callable[[int, int], None]


def calibrate(
    wanted: Sequence[tuple[Kind, Program]],
    kv: KvFormat,
    threads: int,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> Book:
    """The book for `threads` in which every kernel of some programs is.

    wanted: programs, and the kind of probe that has their kernels
    again: measure even what the cache has

    Takes 5 to 10 seconds for each kind that is not in the cache. Raises MachineError if this
    computer cannot run the probes.
    """
    known = limits.load_or_measure(threads)
    identity = identity_of(known)
    book = None if again else books.load(identity, threads)
    missing = [kind for kind, program in wanted if _lacks(book, program, kv)]
    kinds = list(dict.fromkeys(missing))
    for number, kind in enumerate(kinds):
        if progress is not None:
            progress(number, len(kinds))
        fresh = measure(kind, kv, threads, known, attention=_lacks_attention(book, kind, kv))
        book = check(fresh if book is None else book.merged(fresh), kind, kv, known)
        books.save(identity, book)
    assert book is not None, "nothing was wanted"
    return book


def measure(kind: Kind, kv: KvFormat, threads: int, known: Limits, *, attention: bool) -> Book:
    """A book of one kind's kernels, with the attention of its family if that is asked for."""
    samples: list[Sample] = []
    overheads: list[Overhead] = []
    for bench, shapes in _benches(kind, kv, threads, known, attention):
        for shape in shapes:
            found, beside = bench.measure(shape)
            samples += found
            overheads.append(beside)
    if not attention:
        samples = [each for each in samples if not each.work.key.startswith("attend")]
    return books.make(samples, overheads, threads)


def check(book: Book, kind: Kind, kv: KvFormat, known: Limits) -> Book:
    """The book with the errors of its predictions for a probe that it was not made from."""
    model = check_model(kind)
    program = compile_probe(model, kind)
    shapes = check_shapes(kind.family)
    pages = pages_for(shapes) if program.caches else 0
    machine = make("native", book.threads, kv)
    bench = Bench(machine, model, program, known, book.threads, kv, pages)
    predictor = Predictor(program, kv, book, known, bench.output)
    errors = [
        predictor.seconds(Lengths.of(*shape)) / bench.seconds(shape) - 1.0 for shape in shapes
    ]
    return replace(book, errors={**book.errors, kind.name: tuple(sorted(errors))})


def _benches(
    kind: Kind, kv: KvFormat, threads: int, known: Limits, attention: bool
) -> Iterable[tuple[Bench, list[Shape]]]:
    rows, attending = row_shapes(kind.family), attention_shapes(kind.family)
    shapes = rows + (attending if attention else [])
    for model in probe_models(kind):
        program = compile_probe(model, kind)
        pages = pages_for(shapes) if program.caches else 0
        yield Bench(make("native", threads, kv), model, program, known, threads, kv, pages), shapes


def identity_of(known: Limits) -> str:
    """What must be equal for a book to hold."""
    return json.dumps(list(known.identity()))


def _lacks(book: Book | None, program: Program, kv: KvFormat) -> bool:
    return book is None or not all(book.covers(work) for work in works(program, kv))


def _lacks_attention(book: Book | None, kind: Kind, kv: KvFormat) -> bool:
    key = "attend_all" if kind.family == "bert" else f"attend/{kv}"
    return book is None or key not in book.fits
