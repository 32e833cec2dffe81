"""What every machine must do alike: shapes, refusals, counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from overclock.errors import MachineError
from overclock.machine.machine import Batch, Machine
from overclock.machine.reference import ReferenceMachine
from overclock.machine.virtual import Roofline, VirtualMachine
from tests.machine import rig


def native() -> Machine:
    pytest.importorskip("overclock._native")
    from overclock.machine.native import NativeMachine

    return NativeMachine(2)


def virtual() -> Machine:
    return VirtualMachine(Roofline(1e10, 1e11))


MACHINES: dict[str, Callable[[], Machine]] = {
    "reference": ReferenceMachine,
    "virtual": virtual,
    "native": native,
}


def loaded(machine: str, name: str) -> Machine:
    made = MACHINES[machine]()
    made.load(rig.program(name, rig.DEFAULT), rig.model(name).weights, pages=rig.PAGES)
    return made


@pytest.fixture(scope="module", params=MACHINES)
def decoder(request: pytest.FixtureRequest) -> Machine:
    return loaded(request.param, "qwen3")


@pytest.fixture(scope="module", params=MACHINES)
def encoder(request: pytest.FixtureRequest) -> Machine:
    return loaded(request.param, "bert")


def two_sequences() -> Batch:
    """40 tokens in one piece, and 3 more after 5."""
    sequences = rig.random_ids("qwen3", (40, 8))
    return rig.decoder_batch(sequences, (0, 5), rig.page_table((40, 8)), [(0, 40), (1, 3)])


def test_shapes_of_logits(decoder: Machine) -> None:
    batch = two_sequences()
    logits = decoder.run(batch)
    assert logits.shape == (43, 293)
    assert logits.dtype == np.float32
    few = replace(batch, output_rows=np.array([42, 0], np.int32))
    assert decoder.run(few).shape == (2, 293)
    assert decoder.run(replace(batch, output_rows=few.output_rows[:0])).shape == (0, 293)


def test_shapes_of_an_encoder(encoder: Machine) -> None:
    sequences = rig.random_ids("bert", (7, 30, 1))
    for output, shape in (("hidden", (38, 32)), ("embedding", (3, 32)), ("scores", (38, 288))):
        values = encoder.run(rig.encoder_batch(sequences, output))
        assert values.shape == shape
        assert values.dtype == np.float32


def test_an_answer_stays_what_it_was(decoder: Machine) -> None:
    batch = two_sequences()
    first = decoder.run(batch)
    kept = first.copy()
    decoder.run(replace(batch, token_ids=batch.token_ids[::-1].copy()))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(decoder.run(batch), kept)


def test_counters_count_and_start_anew(decoder: Machine) -> None:
    decoder.counters()
    for _ in range(3):
        decoder.run(two_sequences())
    counters = decoder.counters()
    assert counters.runs == 3
    assert counters.seconds.shape == (len(rig.program("qwen3", rig.DEFAULT).instructions),)
    assert (counters.seconds > 0).all()
    after = decoder.counters()
    assert after.runs == 0
    assert not after.seconds.any()


def test_only_what_an_output_needs_is_run(encoder: Machine) -> None:
    encoder.counters()
    encoder.run(rig.encoder_batch(rig.random_ids("bert", (7,)), "embedding"))
    program = rig.program("bert", rig.DEFAULT)
    needed = set(program.needed_for("embedding"))
    assert set(np.flatnonzero(encoder.counters().seconds)) == needed
    assert len(needed) < len(program.instructions)


def int32(*values: int) -> rig.IntArray:
    return np.array(values, np.int32)


def changed(array: rig.IntArray, index: int | tuple[int, int], value: int) -> rig.IntArray:
    copy = array.copy()
    copy[index] = value
    return copy


GOOD = two_sequences()
BAD: dict[str, tuple[Batch, str]] = {
    "output": (replace(GOOD, output="hidden"), "no output 'hidden'"),
    "id": (replace(GOOD, token_ids=changed(GOOD.token_ids, 3, 293)), "token id 293"),
    "negative id": (replace(GOOD, token_ids=changed(GOOD.token_ids, 3, -1)), "token id -1"),
    "type of ids": (
        replace(GOOD, token_ids=GOOD.token_ids.astype(np.int64)),
        "int64",
    ),
    "shape of ids": (replace(GOOD, token_ids=GOOD.token_ids[None]), "shape"),
    "falling starts": (replace(GOOD, starts=int32(0, 50, 43)), "starts"),
    "empty sequence": (replace(GOOD, starts=int32(0, 43, 43)), "starts"),
    "short starts": (replace(GOOD, starts=int32(0, 40, 42)), "starts"),
    "number of starts": (replace(GOOD, starts=int32(0, 43)), "starts has the shape"),
    "no tokens": (
        Batch(int32(), int32(0), int32(), np.zeros((0, 1), np.int32), int32(), "logits"),
        "no tokens",
    ),
    "negative context": (replace(GOOD, contexts=int32(0, -1)), "context -1"),
    "too long": (replace(GOOD, contexts=int32(100, 5)), "140 tokens"),
    "too few pages": (replace(GOOD, contexts=int32(30, 5)), "needs 3 KV pages"),
    "page": (replace(GOOD, pages=changed(GOOD.pages, (0, 1), rig.PAGES)), "KV page 16"),
    "negative page": (replace(GOOD, pages=changed(GOOD.pages, (0, 1), -1)), "KV page -1"),
    "shared page": (replace(GOOD, pages=changed(GOOD.pages, (1, 0), 1)), "KV page 1 is written"),
    "rows of pages": (replace(GOOD, pages=GOOD.pages[:1]), "pages has the shape"),
    "output row": (replace(GOOD, output_rows=int32(43)), "output row 43"),
    "token types": (replace(GOOD, token_types=int32(0)), "token_types has the shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_batches_are_refused_by_name(decoder: Machine, case: str) -> None:
    batch, words = BAD[case]
    with pytest.raises(MachineError, match=words):
        decoder.run(batch)
    assert decoder.run(two_sequences()).shape == (43, 293)


def test_bad_batches_of_an_encoder(encoder: Machine) -> None:
    batch = rig.encoder_batch(rig.random_ids("bert", (7,)), "hidden")
    with pytest.raises(MachineError, match="keeps no context"):
        encoder.run(replace(batch, contexts=int32(1)))
    with pytest.raises(MachineError, match="token type 2"):
        encoder.run(replace(batch, token_types=np.full(7, 2, np.int32)))
    with pytest.raises(MachineError, match="65 tokens"):
        encoder.run(rig.encoder_batch(rig.random_ids("bert", (65,)), "hidden"))


def test_a_prefix_may_be_read_by_two(decoder: Machine) -> None:
    (first, second) = rig.random_ids("qwen3", (40, 40))
    second[:32] = first[:32]
    decoder.run(rig.decoder_batch([first], [0], rig.page_table([40]), [(0, 40)]))
    table = np.array([[0, 1], [0, 2]], np.int32)
    shared = rig.decoder_batch([first, second], [32, 32], table, [(0, 8), (1, 8)])
    logits = decoder.run(shared)[8:]
    alone = np.array([[3, 4]], np.int32)
    whole = decoder.run(rig.decoder_batch([second], [0], alone, [(0, 40)]))
    np.testing.assert_allclose(logits, whole[32:], atol=1e-4)


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_loaded(machine: str) -> None:
    with pytest.raises(MachineError, match="load"):
        MACHINES[machine]().run(two_sequences())


@pytest.mark.parametrize("machine", ["reference", "native"])
def test_weights_must_fit(machine: str) -> None:
    program, weights = rig.program("qwen3", rig.DEFAULT), dict(rig.model("qwen3").weights)
    name = "blk.1.ffn_up.weight"
    tensor = weights.pop(name)
    with pytest.raises(MachineError, match=name):
        MACHINES[machine]().load(program, weights, pages=1)
    weights[name] = replace(tensor, shape=tensor.shape[::-1])
    with pytest.raises(MachineError, match=name):
        MACHINES[machine]().load(program, weights, pages=1)
