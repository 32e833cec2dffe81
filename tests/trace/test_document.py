"""The document of a trace: what its reader demands, and figures that agree with each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from overclock.machine.limits import Figure, Limits
from overclock.program.compiler import compile
from overclock.program.cost import Load, total
from overclock.trace.document import Json, Subject, document, fingerprint
from overclock.trace.loading import Loading
from overclock.trace.reading import read_document
from overclock.trace.record import TickRecord
from tests import adapters
from tests.machine import rig as machines
from tests.program.models import decoder
from tests.trace import rig

SUBJECT = Subject(
    kind="streams",
    program=rig.PROGRAM,
    model="tiny",
    weight_bytes=1234,
    machine="native",
    tier="avx2",
    threads=2,
    kv="f16",
    what={"streams": 2, "tokens": 3, "prompt_tokens": 9},
)


def ticks() -> list[TickRecord]:
    busy = np.full((2, rig.COUNT), 0.75e-3)
    return [
        rig.tick(1.0, rig.counters(busy=busy), lengths=(5, 1), contexts=(0, 40)),
        rig.tick(2.0),
        rig.tick(3.0, rig.counters(busy=busy), lengths=(1, 1), contexts=(5, 41)),
    ]


def made(subject: Subject = SUBJECT, limits: Limits | None = rig.LIMITS) -> Json:
    curve = {2: {1 << 20: Figure(80.0, 80, 80), 1 << 30: Figure(20.0, 20, 20)}}
    known = None if limits is None else replace(limits, read_curve=curve)
    return document(subject, rig.recorder(ticks(), [rig.request(0.5, 0.1)]), known)


@pytest.mark.parametrize("limits", [None, rig.LIMITS], ids=["without limits", "with limits"])
def test_its_reader_takes_it(tmp_path: Path, limits: Limits | None) -> None:
    loading = Loading()
    with loading.part("files"):
        pass
    found = made(replace(SUBJECT, loading=loading, load_s=loading.done()), limits)
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(found, allow_nan=False))
    assert read_document(path) == json.loads(json.dumps(found))


def test_figures_agree_with_each_other() -> None:
    found = json.loads(json.dumps(made()))
    assert found["wall_s"] == 10.0
    assert 0.0 < found["accounted_share"] <= 1.0
    assert found["accounted_s"] == pytest.approx(found["accounted_share"] * 10.0)
    for index, each in enumerate(found["instructions"]):
        assert each["index"] == index
        nanoseconds = sum(tick["ns"][index] for tick in found["ticks"] if tick["ns"])
        assert each["seconds"] == pytest.approx(1e-9 * nanoseconds)
        busy = sum(tick["busy_ns"][index] for tick in found["ticks"] if tick["busy_ns"])
        assert each["busy_s"] == pytest.approx(1e-9 * busy)
        assert each["runs"] == 2
        assert each["share"] == pytest.approx(each["attainable_s"] / each["seconds"])
    assert found["wait_s"] == pytest.approx(2 * rig.COUNT * 0.5e-3)


def test_costs_are_those_of_the_batches_that_ran() -> None:
    loads = [Load((5, 1), (0, 40), 2), Load((1, 1), (5, 41), 2)]
    wanted = [total(rig.PROGRAM, load, "f16", output="logits") for load in loads]
    found = json.loads(json.dumps(made()))["instructions"]
    for name in ("operations", "weight_bytes", "activation_bytes", "kv_bytes"):
        summed = sum(each[name] for each in found)
        assert summed == sum(getattr(each, name) for each in wanted)


def test_adapters_cost_what_their_ranks_say() -> None:
    model = machines.model("llama")
    sites = adapters.adapter(model).sites
    program = compile(model, adapters=set(sites))
    ranks = dict.fromkeys(sites, (8,))
    subject = replace(SUBJECT, program=program, ranks=ranks)
    count = len(program.instructions)
    tick = rig.tick(1.0, rig.counters(np.full(count, 1e-3)), lengths=(3,), contexts=(0,))
    assert tick.detail is not None
    adapted = replace(tick, detail=tick.detail._replace(adapters=np.array([1], np.int32)))
    found = json.loads(json.dumps(document(subject, rig.recorder([adapted]), None)))
    load = Load((3,), (0,), 1, (1,), ranks)
    assert sum(each["operations"] for each in found["instructions"]) == (
        total(program, load, output="logits").operations
    )


def test_times_are_from_the_beginning() -> None:
    moved = rig.recorder([rig.tick(101.0)], [rig.request(100.5, ended=104.0)], 100.0, 105.0)
    found = json.loads(json.dumps(document(SUBJECT, moved, None)))
    assert found["wall_s"] == 5.0
    assert found["ticks"][0]["start"] == 1.0
    times = ("arrived", "admitted", "first_token", "last_token", "ended")
    assert [found["requests"][0][name] for name in times] == [0.5, 0.5, 1.5, 2.5, 4.0]


def test_a_fingerprint_names_instructions_shapes_and_formats() -> None:
    same = compile(decoder(format=rig.PROGRAM.buffers["token_embd.weight"].format))
    assert fingerprint(same) == fingerprint(rig.PROGRAM)
    others = [compile(decoder()), compile(decoder(), passes=[]), compile(decoder(), exact=True)]
    names = {fingerprint(each) for each in (*others, rig.PROGRAM)}
    assert len(names) >= 3
