"""Predictions add up, and physics holds: more work and slower memory never make anything faster."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.predict.book import Book
from overclock.predict.fit import SumFit
from overclock.predict.kernels import Lengths
from overclock.predict.predictor import Predictor
from overclock.predict.sheet import Scale
from overclock.program.compiler import compile
from overclock.program.isa import Op
from tests.machine import rig as machines
from tests.predict import rig


@cache
def predictor(
    name: str, threads: int = 1, gbs: float = 20.0, scale: Scale | None = None
) -> Predictor:
    program = compile(machines.model(name))
    output = None if program.caches else "embedding"
    book = rig.book_of(program, threads=threads)
    return Predictor(program, "f16", book, rig.limits(gbs, 8), output, scale)


@st.composite
def batches(draw: st.DrawFn, contexts: bool = True) -> Lengths:
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=5))
    past = [draw(st.integers(0, 500)) if contexts else 0 for _ in lengths]
    return Lengths.of(lengths, past, draw(st.integers(0, sum(lengths))))


@pytest.mark.parametrize("name", machines.DECODERS + machines.ENCODERS)
@given(data=st.data(), threads=st.integers(1, 8))
def test_instructions_and_overhead_are_the_whole(
    name: str, data: st.DataObject, threads: int
) -> None:
    found = predictor(name, threads)
    load = data.draw(batches(found.keeps_kv))
    each = found.instructions(load)
    assert (each >= 0).all()
    assert each.sum() + found.overhead(load) == pytest.approx(found.seconds(load))
    assert found.seconds(load) == found.seconds(load)  # remembered


def test_an_output_takes_only_what_it_needs() -> None:
    program = compile(machines.model("bert"))
    book = rig.book_of(program)
    scores = Predictor(program, "f16", book, rig.limits(), "scores")
    embedding = Predictor(program, "f16", book, rig.limits(), "embedding")
    load = Lengths.of([9], [0], 9)
    for found, output in ((scores, "scores"), (embedding, "embedding")):
        ran = np.flatnonzero(found.instructions(load))
        assert set(ran.tolist()) == set(program.needed_for(output))


@pytest.mark.parametrize("name", ["llama", "gemma3", "all-types"])
@given(load=batches(), more=st.integers(1, 300), rows=st.integers(1, 60))
def test_more_work_never_takes_less(name: str, load: Lengths, more: int, rows: int) -> None:
    found = predictor(name)
    before = found.seconds(load) * (1 - 1e-9)
    assert found.seconds(replace(load, contexts=load.contexts + more)) >= before
    assert found.seconds(replace(load, lengths=load.lengths + rows)) >= before
    assert found.seconds(replace(load, selected=load.selected + rows)) >= before
    another = Lengths.of(
        np.append(load.lengths, rows), np.append(load.contexts, more), load.selected
    )
    assert found.seconds(another) >= before


@given(load=batches(), more=st.integers(1, 20_000), times=st.tuples(*[st.floats(0.1, 10.0)] * 3))
def test_longer_contexts_never_take_less_on_any_computer(
    load: Lengths, more: int, times: tuple[float, float, float]
) -> None:
    program = compile(machines.model("all-types"))
    found = Predictor(program, "f16", rig.book_of(program), rig.limits(), None, Scale(*times))
    longer = replace(load, contexts=load.contexts + more)
    assert found.seconds(longer) >= found.seconds(load) * (1 - 1e-9)


def test_products_wait_for_the_weights_of_a_run_that_goes_through_many_bytes() -> None:
    program = compile(machines.model("llama"))
    found = Predictor(program, "f16", rig.book_of(program), rig.limits())
    near, far = (found.instructions(rig.generation(1, context)) for context in (1, 3_000_000))
    products = [i for i, each in enumerate(program.instructions) if each.op is Op.MATMUL]
    assert (far[products] > near[products]).all()
    others = [i for i, each in enumerate(program.instructions) if each.op in (Op.RMSNORM, Op.EMBED)]
    assert others
    np.testing.assert_allclose(far[others], near[others])


@pytest.mark.parametrize("name", ["llama", "all-types"])
@given(load=batches(), slower=st.floats(1.0, 10.0))
def test_memory_scales_what_waits_for_it(name: str, load: Lengths, slower: float) -> None:
    fast = predictor(name)
    program, book = compile(machines.model(name)), rig.book_of(compile(machines.model(name)))
    slow = Predictor(program, "f16", book, rig.limits(20.0, 8), None, Scale(1 / slower))
    before, after = fast.seconds(load), slow.seconds(load)
    assert before * (1 - 1e-9) <= after <= slower * before * (1 + 1e-9)


@given(batches(), st.floats(1.0, 10.0))
def test_a_computer_that_does_all_faster_is_at_most_so_much_faster(
    load: Lengths, times: float
) -> None:
    program = compile(machines.model("all-types"))
    book = replace(rig.book_of(program), overhead=())
    here = Predictor(program, "f16", book, rig.limits())
    scale = Scale(times, times, times)
    there = Predictor(program, "f16", book, rig.limits(), None, scale)
    assert there.seconds(load) == pytest.approx(here.seconds(load) / times)


def test_the_error_is_that_of_the_checks() -> None:
    program = compile(machines.model("llama"))
    book = replace(rig.book_of(program), errors={"a": (-0.2, 0.1), "b": (0.05,)})
    found = Predictor(program, "f16", book, rig.limits())
    assert found.error(1.0) == pytest.approx(0.2)
    assert found.error(0.5) == pytest.approx(0.1)
    bare = Predictor(program, "f16", replace(book, errors={}), rig.limits())
    assert bare.error() > 0.2


def test_a_book_without_a_kernel_or_of_another_kind_is_refused() -> None:
    program = compile(machines.model("llama"))
    book = rig.book_of(program)
    few = {key: fit for key, fit in book.fits.items() if not key.startswith("attend")}
    with pytest.raises(InputError, match="attend"):
        Predictor(program, "f16", Book(1, few, ()), rig.limits())
    bad = {**book.fits, **dict.fromkeys((k for k in few if "matmul" in k), SumFit((1.0,) * 10))}
    bad |= {"attend/f16": next(iter(few.values()))}
    with pytest.raises(InputError, match="damaged"):
        Predictor(program, "f16", Book(1, bad, ()), rig.limits())
