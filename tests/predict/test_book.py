"""The book of kernels: kept, refused when it is damaged, and open about what it lacks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.predict import book as books
from overclock.predict.book import Book
from overclock.predict.fit import Conditions, RowFit, RowTable, Sample, SumFit
from overclock.predict.kernels import AttendWork, Lengths, RowWork, Work, works
from overclock.predict.measure import Overhead
from overclock.program.compiler import compile
from overclock.program.program import Rows
from tests.machine import rig as machines
from tests.predict import rig

WORKS = [
    work
    for name, kv in (("llama", "f16"), ("all-types", "f16"), ("bert-mean", "f16"))
    for work in works(compile(machines.model(name)), "f16")
]
BOOK = rig.book(WORKS, threads=2)


def row_work(key: str, weight_bytes: int = 0) -> RowWork:
    sizes = (1.0, 2.0) if weight_bytes else (1.0,)
    return RowWork(key, Rows.TOKENS, sizes, weight_bytes, 0)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path))
    return tmp_path / "kernels.json"


def test_what_is_saved_is_loaded(cache: Path) -> None:
    books.save("this one", BOOK)
    assert books.load("this one", 2) == BOOK


def test_another_computer_version_or_thread_count_has_none(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.save("this one", BOOK)
    assert books.load("another", 2) is None
    assert books.load("this one", 1) is None
    monkeypatch.setattr(books, "VERSION", books.VERSION + 1)
    assert books.load("this one", 2) is None


def test_thread_counts_lie_side_by_side_and_other_computers_go(cache: Path) -> None:
    one = replace(BOOK, threads=1, overhead=())
    books.save("this one", BOOK)
    books.save("this one", one)
    assert books.load("this one", 1) == one
    assert books.load("this one", 2) == BOOK
    books.save("another", one)
    assert books.load("this one", 2) is None
    assert books.load("another", 1) == one


def test_a_cache_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "file"))
    books.save("this one", BOOK)
    assert books.load("this one", 2) is None


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value, from the outside in."""
    inside: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    return [path, *(place for key, each in inside for place in places(each, (*path, key)))]


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 1e999, float("nan"), "12", "x", [], {}, [[]], {"weights": [1]}, 10**400]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_a_damaged_book_is_none_or_can_be_used(cache: Path, data: st.DataObject) -> None:
    cache.unlink(missing_ok=True)
    books.save("this one", BOOK)
    record = json.loads(cache.read_text())
    *path, last = data.draw(st.sampled_from(places(record)[1:]))
    inner = record
    for key in path:
        inner = inner[key]
    inner[last] = data.draw(VALUES)
    cache.write_text(json.dumps(record))
    found = books.load("this one", 2)
    books.save("this one", replace(BOOK, threads=1))  # whatever is there is no hindrance
    assert books.load("this one", 1) == replace(BOOK, threads=1)
    if found is None:
        return
    for work in WORKS:
        for moved in (1e6, 2e8, 1e9):
            assert 0.0 <= predicted(found, work, moved) < float("inf")


def predicted(book: Book, work: Work, moved: float) -> float:
    try:
        fit = book.fit(work)
    except InputError:  # its key was damaged
        return 0.0
    limits = rig.limits()
    at = Conditions(2, moved, lambda size: limits.bandwidth(size, 2) * rig.GB)
    if isinstance(fit, RowFit):
        assert isinstance(work, RowWork)
        return fit.seconds(work, 5, at)
    return fit.seconds(work, Lengths.of([3, 1], [0, 40], 2), at)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text().map(str.encode), st.binary(), st.just(b"[" * 200_000)))
def test_any_bytes_may_stand_in_the_cache(cache: Path, content: bytes) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_bytes(content)
    assert books.load("this one", 2) is None


def test_the_nearest_kernel_stands_in_for_one_that_is_not_there() -> None:
    fits = {
        "matmul/Q8_0/i8/none/plain/f32": SumFit((1.0,)),
        "matmul/Q8_0/f32/none/plain/f32": SumFit((2.0,)),
        "matmul/F16/f32/none/plain/f32": SumFit((3.0,)),
        "rmsnorm/f32": SumFit((4.0,)),
    }
    book = Book(1, fits, ())
    assert book.fit(row_work("matmul/Q8_0/f32/gelu/residual/f32", 1)) == SumFit((2.0,))
    assert book.fit(row_work("matmul/F16/i8/none/plain/f32", 1)) == SumFit((3.0,))
    assert book.fit(row_work("rmsnorm/i8")) == SumFit((4.0,))
    assert book.fit(row_work("add/f32")) == SumFit((4.0,))  # a norm, as nothing adds
    with pytest.raises(InputError, match=r"gated_matmul/Q8_0.* 1 threads"):
        book.fit(row_work("gated_matmul/Q8_0/i8", 1))
    with pytest.raises(InputError, match="attend_all"):
        book.fit(AttendWork("attend_all", 1, 1, 16, 0, 64))


def test_a_book_covers_what_differs_by_little() -> None:
    fits = dict.fromkeys(
        ("matmul/Q8_0/i8/none/plain/f32", "attend/f16", "rmsnorm/f32"), SumFit((1.0,))
    )
    book = Book(1, fits, ())
    covered = ("matmul/Q8_0/i8/gelu/residual/f32", "rmsnorm/i8/both", "attend/f16")
    missing = ("matmul/Q8_0/f32/none/plain/f32", "matmul/F16/i8", "attend/i8", "add/f32")
    assert all(book.covers(row_work(key)) for key in covered)
    assert not any(book.covers(row_work(key)) for key in missing)


def test_a_merged_book_has_both_and_the_newer_wins() -> None:
    old = Book(1, {"a": SumFit((1.0,)), "b": SumFit((2.0,))}, (1.0, 2.0, 3.0), {"x": (0.1,)})
    new = Book(1, {"b": SumFit((3.0,))}, (), {"y": (0.2,)})
    both = old.merged(new)
    assert both.fits == {"a": SumFit((1.0,)), "b": SumFit((3.0,))}
    assert both.overhead == (1.0, 2.0, 3.0)
    assert both.errors == {"x": (0.1,), "y": (0.2,)}


def test_samples_that_say_nothing_are_left_out() -> None:
    work = row_work("rmsnorm/f32")
    loads = [Lengths.of([rows], [0], 1) for rows in (0, 1, 2, 3)]
    samples = [Sample(work, load, 1e-6 * load.tokens, 2e6, 1e9) for load in loads]
    zero = Sample(work, loads[1], 0.0, 2e6, 1e9)
    few = [Sample(row_work("add/f32"), loads[1], 1e-6, 2e6, 1e9)] * 2
    book = books.make([*samples, zero, *few], [], [], 1)
    assert set(book.fits) == {"rmsnorm/f32"}
    fit = book.fits["rmsnorm/f32"]
    assert isinstance(fit, RowFit)
    assert (fit.near.rows, fit.near.moved) == ((1, 2, 3), 2e6)
    assert book.overhead == ()


def timed(work: RowWork, rows: int, seconds: float, moved: float) -> Sample:
    return Sample(work, Lengths.of([rows], [0], 1), seconds, moved, 1e9)


def test_only_what_has_weights_is_told_apart_by_where_they_come_from() -> None:
    product, norm = row_work("matmul/Q8_0/i8", 64), row_work("rmsnorm/f32")
    near, far = (
        [timed(work, rows, rows * each, moved) for work in (product, norm) for rows in (1, 2, 4)]
        for each, moved in ((1e-6, 6e7), (3e-6, 4e8))
    )
    book = books.make(near, far, [], 1)
    fits = book.fits["matmul/Q8_0/i8"], book.fits["rmsnorm/f32"]
    assert all(isinstance(each, RowFit) for each in fits)
    matrix, plain = (each for each in fits if isinstance(each, RowFit))
    assert plain.far is None
    assert matrix.far is not None
    assert (matrix.near.moved, matrix.far.moved) == (6e7, 4e8)
    assert matrix.near.times(product, 1) == pytest.approx([1e-6, 2e-6, 4e-6])
    assert matrix.far.times(product, 1) == pytest.approx([3e-6, 6e-6, 12e-6])
    # Too few from far say nothing.
    alone = books.make(near, far[:2], [], 1).fits["matmul/Q8_0/i8"]
    assert alone == RowFit(matrix.near)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("rows", [2, 1]),
        ("rows", [1, 1]),
        ("rows", [0, 1]),
        ("rows", []),
        ("rows", [1, 2, 3]),
        ("weights", [[1.0, 1.0]]),
        ("weights", [[1.0, -1.0], [1.0, 1.0]]),
        ("weights", [[1.0, 1.0, 1.0], [1.0, 1.0]]),
        ("weights", [[1.0, 1.0], [1.0, float("nan")]]),
        ("moved", -1.0),
        ("moved", None),
        ("moved", [1.0]),
    ],
)
@pytest.mark.parametrize("place", ["near", "far"])
def test_a_table_that_makes_no_sense_is_refused(
    cache: Path, place: str, part: str, value: object
) -> None:
    table = RowTable((1, 2), ((1.0, 1.0), (1.0, 2.0)), 1e6)
    book = Book(1, {"rmsnorm/f32": RowFit(table, table)}, ())
    books.save("this one", book)
    assert books.load("this one", 1) == book
    record = json.loads(cache.read_text())
    record["books"]["1"]["fits"]["rmsnorm/f32"][place][part] = value
    cache.write_text(json.dumps(record))
    assert books.load("this one", 1) is None


@pytest.mark.parametrize("count", [0, 9, 11])
def test_attention_with_another_number_of_weights_is_refused(cache: Path, count: int) -> None:
    books.save("this one", Book(1, {"attend/f16": SumFit((1.0,) * count)}, ()))
    assert books.load("this one", 1) is None
    books.save("this one", Book(1, {"attend/f16": SumFit((1.0,) * 10)}, ()))
    assert books.load("this one", 1) is not None


def test_a_planted_overhead_is_found() -> None:
    loads = [Lengths.of([n] * s, [0] * s, s) for n, s in ((1, 1), (1, 9), (64, 1), (30, 4))]
    found = [Overhead(load, 5e-6 + 2e-8 * load.tokens + 3e-7 * len(load.lengths)) for load in loads]
    assert books.make([], [], found, 1).overhead == pytest.approx((5e-6, 2e-8, 3e-7))
