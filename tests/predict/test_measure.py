"""Measuring on a machine whose times are those of the cost rules, and that looks at its pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock.machine.limits import Figure, Limits
from overclock.machine.machine import Batch, Counters
from overclock.machine.pages import PageNumbers
from overclock.machine.virtual import Roofline, VirtualMachine
from overclock.model.formats import Format
from overclock.model.model import Model
from overclock.predict import measure, probes
from overclock.predict.fit import NEAR_BYTES
from overclock.predict.kernels import Lengths, RowWork, works
from overclock.predict.measure import (
    PAGES_AT_ONCE,
    Bench,
    Kind,
    Shape,
    attention_shapes,
    batch_of,
    check_shapes,
    far_shapes,
    kinds_of,
    pages_for,
    probe_models,
    row_shapes,
)
from overclock.program.compiler import compile
from overclock.program.cost import Load, cost
from overclock.program.program import PAGE_TOKENS, Program, Rows
from tests.machine import rig as machines
from tests.predict import rig

MEMORY = Roofline(1e9, 1e15)
"""Every byte takes 1 ns, and arithmetic next to nothing."""

BESIDE = 3e-6


class Watched(VirtualMachine):
    """Notes which pages were written, and refuses to read one that was not."""

    def __init__(self) -> None:
        super().__init__(MEMORY)
        self.written: list[int] = []
        self.most_at_once = 0
        self.runs = 0

    def write_pages(self, pages: PageNumbers, data: NDArray[np.uint8]) -> None:
        super().write_pages(pages, data)
        assert not self.runs, "a page is written before anything runs"
        self.written += np.asarray(pages).tolist()
        self.most_at_once = max(self.most_at_once, len(data))

    def run(self, batch: Batch) -> NDArray[np.float32]:
        self.runs += 1
        lengths = np.diff(batch.starts)
        for row, new, old in zip(batch.pages, lengths, batch.contexts, strict=True):
            used = row[: -(-int(new + old) // PAGE_TOKENS)]
            assert set(used.tolist()) <= set(self.written)
        return super().run(batch)

    def counters(self) -> Counters:
        found = super().counters()
        return found._replace(whole=float(found.seconds.sum()) + BESIDE * found.runs)


def bench(model: Model, pages: int, known: Limits | None = None) -> tuple[Bench, Watched, Program]:
    program, machine = compile(model), Watched()
    made = Bench(machine, model, program, known or rig.limits(), 1, "f16", pages)
    return made, machine, program


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LEAST", 2)
    monkeypatch.setattr(measure, "SECONDS", 0.0)


@pytest.mark.parametrize("pages", [1, PAGES_AT_ONCE, PAGES_AT_ONCE + 1, 2 * PAGES_AT_ONCE + 9])
def test_kv_pages_are_written_once_before_any_is_read(pages: int) -> None:
    found, machine, _ = bench(machines.model("llama"), pages)
    assert machine.written == list(range(pages))
    assert machine.most_at_once <= PAGES_AT_ONCE
    assert machine.runs == 0
    found.measure(([1], [min(90, pages * PAGE_TOKENS - 1)], 1))
    assert machine.runs == 1 + 2  # the first is the warm-up


def test_an_encoder_has_no_pages_to_write() -> None:
    found, machine, _ = bench(machines.model("bert-mean"), 0)
    assert machine.written == []
    assert found.seconds(([9], [0], 0)) > 0


@pytest.mark.parametrize("name", ["llama", "gemma3", "bert-mean", "all-types"])
def test_samples_are_the_times_of_the_cost_rules(name: str) -> None:
    model = machines.model(name)
    is_encoder = model.config.family == "bert"
    shape: Shape = ([5, 3], [0, 0], 0) if is_encoder else ([5, 1], [0, 90], 2)
    known = rig.limits()
    found, _, program = bench(model, 0 if is_encoder else pages_for([shape]), known)
    samples, beside = found.measure(shape)
    load = Load((5, 3), (0, 0), 0) if is_encoder else Load((5, 1), (0, 90), 2)
    kinds = works(program, "f16")
    needed = program.needed_for(found.output)
    spent = [cost(program, program.instructions[index], load, "f16") for index in needed]
    seconds = [1e-9 * each.bytes for each in spent]
    for sample in samples:
        own = [s for i, s in zip(needed, seconds, strict=True) if kinds[i] == sample.work]
        assert sample.seconds == pytest.approx(np.mean(own))
        assert sample.bytes_per_second == known.bandwidth(sample.moved, 1) * 1e9
        assert sample.farness == 0.0  # tiny models are near
    assert len({sample.work for sample in samples}) == len(samples)
    assert {sample.work for sample in samples} == {kinds[index] for index in needed}
    assert len({sample.moved for sample in samples}) == 1
    assert beside.seconds == pytest.approx(BESIDE)
    assert beside.load.tokens == sum(shape[0])
    assert found.seconds(shape) == pytest.approx(sum(seconds) + BESIDE)


def test_a_run_through_many_bytes_is_far() -> None:
    # 1e10 bytes/s instead of 4e10 nearby: 100 ps a byte instead of 25.
    curve = {NEAR_BYTES: Figure(40.0, 40.0, 40.0), 256 << 20: Figure(10.0, 10.0, 10.0)}
    known = replace(rig.limits(), read_curve={1: curve})
    kind = Kind("llama", Format.Q8_0, Format.F16)
    shape = far_shapes("llama")[0]
    for size, farness in ((1, 0.0), (probes.FAR_BYTES, 75e-12)):
        model = next(iter(probe_models(kind, size)))
        found, _, _ = bench(model, pages_for([shape]), known)
        samples, _ = found.measure(shape)
        assert [each.farness for each in samples] == pytest.approx([farness] * len(samples))
        assert {each.bytes_per_second for each in samples} == {1e10 if farness else 4e10}
        assert all(each.moved > size for each in samples)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_shapes_have_pages_and_rows(family: str) -> None:
    program = compile(machines.model("llama" if family == "llama" else "bert-mean"))
    output = "logits" if family == "llama" else "embedding"
    shapes = [*row_shapes(family), *far_shapes(family), *attention_shapes(family)]
    for shape in (*shapes, *check_shapes(family)):
        lengths, contexts, selected = shape
        load = Lengths.of(*shape)
        batch = batch_of(program, shape, output)
        assert len(batch.token_ids) == batch.starts[-1] == load.tokens
        assert len(batch.output_rows) == selected
        assert batch.output_rows.tolist() == sorted({*batch.output_rows.tolist()})
        assert (batch.output_rows < load.tokens).all()
        if family == "bert":
            assert batch.pages.size == 0
            assert set(contexts) == {0}
            continue
        pages = [
            row[: -(-(new + old) // PAGE_TOKENS)].tolist()
            for row, new, old in zip(batch.pages, lengths, contexts, strict=True)
        ]
        used = [page for row in pages for page in row]
        assert sorted(used) == list(range(pages_for([shape])))  # no page is shared
        assert max(used) < pages_for(shapes)


def test_far_rows_are_those_that_were_measured_nearby_too() -> None:
    for family in ("llama", "bert"):
        near, far = (
            [Lengths.of(*shape).rows(Rows.TOKENS) for shape in shapes]
            for shapes in (row_shapes(family), far_shapes(family))
        )
        assert set(far) <= set(near)
        assert near == sorted(set(near))
        assert far == sorted(set(far))


def test_kinds_are_the_formats_of_a_model() -> None:
    f32 = Kind("llama", Format.F32, Format.F32)
    assert kinds_of(machines.model("llama")) == [f32]
    assert kinds_of(machines.model("bert-mean"), int8=True)[0].name == "bert F32 F32 int8"
    several = kinds_of(machines.model("all-types"), exact=True)
    assert len(several) == len({each.name for each in several}) > 1
    assert all(each.name.endswith(" exact") for each in several)


def test_kernels_of_one_shape_are_one_sample() -> None:
    found, _, program = bench(machines.model("llama"), 1)
    samples, _ = found.measure(([1], [3], 1))
    products = [each for each in samples if isinstance(each.work, RowWork)]
    assert len(samples) < len(program.instructions)
    assert len(products) < len(samples)
