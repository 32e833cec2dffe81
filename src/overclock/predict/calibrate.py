"""Calibrates the cost model on this computer: measures the kernels that are asked about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from overclock.machine import limits
from overclock.machine.choose import make
from overclock.machine.limits import Limits
from overclock.predict import book as books
from overclock.predict import probes
from overclock.predict.book import Book
from overclock.predict.fit import NEAR_BYTES, Sample
from overclock.predict.kernels import Lengths, RowWork, works
from overclock.predict.measure import (
    Bench,
    Kind,
    Overhead,
    Shape,
    attention_shapes,
    check_model,
    check_shapes,
    compile_probe,
    far_shapes,
    output_of,
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
    again: measure these kinds even if the cache has them

    Takes 5 to 10 seconds for each kind that is not in the cache. A kernel that no probe has is
    not looked for again: the book then has the nearest one, or none. Raises MachineError if this
    computer cannot run the probes.
    """
    known = limits.load_or_measure(threads)
    identity = identity_of(known)
    book = books.load(identity, threads) or Book(threads, {}, ())
    kinds = [kind for kind, program in wanted if again or _is_missing(book, kind, program, kv)]
    kinds = list(dict.fromkeys(kinds))
    for number, kind in enumerate(kinds):
        if progress is not None:
            progress(number, len(kinds))
        attention = again or _lacks_attention(book, kind, kv)
        fresh = measure(kind, kv, threads, known, attention=attention)
        book = check(book.merged(fresh), kind, kv, known)
        books.save(identity, book)
    return book


def measure(kind: Kind, kv: KvFormat, threads: int, known: Limits, *, attention: bool) -> Book:
    """A book of one kind's kernels, with the attention of its family if that is asked for."""
    near: list[Sample] = []
    overheads: list[Overhead] = []
    rows = row_shapes(kind.family)
    attending = attention_shapes(kind.family) if attention else []
    for bench in _benches(kind, kv, threads, known, NEAR_BYTES, [*rows, *attending]):
        for shape in rows:
            found, beside = bench.measure(shape)
            near += [each for each in found if attention or isinstance(each.work, RowWork)]
            overheads.append(beside)
        for shape in attending:  # whose rows go through more bytes than the others
            found, _ = bench.measure(shape)
            near += [each for each in found if not isinstance(each.work, RowWork)]
    far: list[Sample] = []
    shapes = far_shapes(kind.family)
    for bench in _benches(kind, kv, threads, known, probes.FAR_BYTES, shapes):
        for shape in shapes:
            found, _ = bench.measure(shape)
            far += [each for each in found if isinstance(each.work, RowWork)]
    return books.make(near, far, overheads, threads)


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
    return replace(book, errors={**book.errors, _name(kind, kv): tuple(sorted(errors))})


def _benches(
    kind: Kind, kv: KvFormat, threads: int, known: Limits, size: int, shapes: Sequence[Shape]
) -> Iterator[Bench]:
    for model in probe_models(kind, size):
        program = compile_probe(model, kind)
        pages = pages_for(shapes) if program.caches else 0
        yield Bench(make("native", threads, kv), model, program, known, threads, kv, pages)


def identity_of(known: Limits) -> str:
    """What must be equal for a book to hold."""
    return json.dumps(list(known.identity()))


def _is_missing(book: Book, kind: Kind, program: Program, kv: KvFormat) -> bool:
    """Whether probes of a kind are to be measured for a program."""
    if _name(kind, kv) in book.errors:
        return False
    found = works(program, kv)
    return not all(book.covers(found[index]) for index in program.needed_for(output_of(program)))


def _name(kind: Kind, kv: KvFormat) -> str:
    """What the errors of a kind that was measured are called in a book."""
    return f"{kind.name} KV {kv}"


def _lacks_attention(book: Book, kind: Kind, kv: KvFormat) -> bool:
    key = "attend_all" if kind.family == "bert" else f"attend/{kv}"
    return key not in book.fits
