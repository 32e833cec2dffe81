"""The quick counting of costs is the plain one, instruction by instruction."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overclock.program.compiler import compile
from overclock.program.cost import Load, cost, uses_integers
from overclock.program.program import KvFormat, Program
from overclock.trace.costs import Coster
from tests import adapters
from tests.machine import rig

KV: tuple[KvFormat, ...] = ("f32", "f16", "i8")


@cache
def coster(name: str, kv: KvFormat, adapted: bool) -> Coster:
    model = rig.model(name)
    sites = adapters.adapter(model).sites if adapted else ()
    return Coster(compile(model, adapters=set(sites)), kv)


@st.composite
def loads(draw: st.DrawFn, program: Program) -> Load:
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    contexts = [draw(st.integers(0, 300)) if program.caches else 0 for _ in lengths]
    ranks = {site: (8, 0, draw(st.integers(1, 64))) for site in program.sites}
    chosen = draw(st.lists(st.integers(0, 3), min_size=len(lengths), max_size=len(lengths)))
    return Load(
        tuple(lengths),
        tuple(contexts),
        draw(st.integers(0, sum(lengths))),
        tuple(chosen) if ranks else (),
        ranks,
    )


@pytest.mark.parametrize("adapted", [False, True], ids=["plain", "adapted"])
@pytest.mark.parametrize("name", rig.DECODERS + rig.ENCODERS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_every_instruction_costs_what_the_rules_say(
    name: str, adapted: bool, data: st.DataObject
) -> None:
    adapted = adapted and name in rig.DECODERS
    counted = coster(name, data.draw(st.sampled_from(KV)), adapted)
    program = counted.program
    for _ in range(2):  # the second may come from what is known of the first
        load = data.draw(loads(program))
        output = data.draw(st.sampled_from(list(program.outputs)))
        found = counted.of(load, output)
        needed = set(program.needed_for(output))
        for index, instruction in enumerate(program.instructions):
            spent = cost(program, instruction, load, counted.kv)
            parts = (
                spent.operations,
                spent.weight_bytes,
                spent.activation_bytes,
                spent.kv_bytes,
            )
            assert found[index].tolist() == (list(parts) if index in needed else [0.0] * 4)


@pytest.mark.parametrize("name", ["llama-gguf", "all-types", "bert-mean"])
def test_products_of_integers_are_marked(name: str) -> None:
    counted = coster(name, "f16", False)
    wanted = [uses_integers(counted.program, each) for each in counted.program.instructions]
    assert counted.integers.tolist() == wanted
    assert counted.integers.dtype == np.bool_
