"""What a run copies out beside its output: native against reference, and against the run itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from overclock.errors import MachineError
from overclock.machine.machine import Batch, Machine
from overclock.machine.virtual import Roofline, VirtualMachine
from overclock.program.plan import plan
from overclock.program.program import Element, Kind
from tests.machine import rig

NEAR = 1e-4
MODES = [rig.PLAIN, rig.EXACT]


def batch_of(name: str, output: str) -> Batch:
    """Two sequences; of a decoder, the second goes on after 5 tokens that are in its pages."""
    if name in rig.ENCODERS:
        return rig.encoder_batch(rig.random_ids(name, (30, 7)), output)
    sequences = rig.random_ids(name, (40, 8))
    table = rig.page_table((40, 8))
    batch = rig.decoder_batch(sequences, (0, 5), table, [(0, 40), (1, 3)])
    return replace(batch, output_rows=np.array([42, 3, 0], np.int32))


def prepare(machine: Machine, name: str) -> None:
    """The first tokens of the second sequence of `batch_of` go to its pages."""
    if name not in rig.ENCODERS:
        sequences, table = rig.random_ids(name, (40, 8)), rig.page_table((40, 8))
        machine.run(rig.decoder_batch(sequences, (0, 0), table, [(1, 5)]))


def tappable(name: str, mode: rig.Mode, output: str) -> list[str]:
    """All activations that the output needs."""
    program = rig.program(name, mode)
    written = (
        operand.buffer
        for index in program.needed_for(output)
        for operand in program.instructions[index].writes()
    )
    buffers = program.buffers
    return list(dict.fromkeys(each for each in written if buffers[each].kind is Kind.ACTIVATION))


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", [*rig.DECODERS, *rig.ENCODERS])
def test_native_taps_are_those_of_the_reference(name: str, mode: rig.Mode) -> None:
    machines = rig.native(name, mode, "f32"), rig.reference(name, mode, "f32")
    for output in rig.program(name, mode).outputs:
        taps, batch = tappable(name, mode, output), batch_of(name, output)
        found = []
        for machine in machines:
            prepare(machine, name)
            found.append(machine.tapped(batch, taps)[1])
        assert list(found[0]) == taps
        for tap in taps:
            rig.assert_near(found[0][tap], found[1][tap], NEAR)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["qwen3", "gemma3", "bert", "roberta-token"])
def test_a_tapped_run_gives_what_a_run_gives(name: str, threads: int) -> None:
    machine = rig.native(name, rig.PLAIN, threads=threads)
    for output in rig.program(name, rig.PLAIN).outputs:
        batch = batch_of(name, output)
        prepare(machine, name)
        plain = machine.run(batch)
        result, found = machine.tapped(batch, tappable(name, rig.PLAIN, output))
        np.testing.assert_array_equal(result, plain)
        np.testing.assert_array_equal(
            found[rig.program(name, rig.PLAIN).outputs[output].buffer], plain
        )
        np.testing.assert_array_equal(machine.run(batch), plain)


@pytest.mark.parametrize("name", ["qwen3", "bert"])
def test_memory_that_others_use_later_does_not_spoil_a_tap(name: str) -> None:
    slots = plan(rig.program(name, rig.PLAIN)).slot_of
    output = "logits" if name == "qwen3" else "scores"
    taps = tappable(name, rig.PLAIN, output)
    assert len({slots[tap] for tap in taps}) < len(taps) / 3
    machine = rig.native(name, rig.PLAIN, threads=2)
    prepare(machine, name)
    batch = batch_of(name, output)
    _, together = machine.tapped(batch, taps)
    for tap in taps:
        _, alone = machine.tapped(batch, [tap])
        np.testing.assert_array_equal(alone[tap], together[tap])


def test_taps_of_a_default_program_are_its_f32_activations() -> None:
    program = rig.program("all-types", rig.DEFAULT)
    buffers = (program.buffers[tap] for tap in tappable("all-types", rig.DEFAULT, "logits"))
    rounded = [buffer.name for buffer in buffers if buffer.element is not Element.F32]
    assert rounded
    machine = rig.native("all-types", rig.DEFAULT)
    batch = batch_of("all-types", "logits")
    with pytest.raises(MachineError, match="in exact mode all of them are"):
        machine.tapped(batch, rounded[:1])


@pytest.mark.parametrize("name", ["nothing", "cache.0", "output_norm.weight", "token_ids"])
@pytest.mark.parametrize("kind", ["native", "reference"])
def test_what_is_no_activation_is_refused_by_name(name: str, kind: str) -> None:
    make = rig.native if kind == "native" else rig.reference
    machine = make("qwen3", rig.PLAIN)
    with pytest.raises(MachineError, match=f"'{name}' cannot be tapped"):
        machine.tapped(batch_of("qwen3", "logits"), ["0.q_rope", name])
    assert machine.run(batch_of("qwen3", "logits")).shape == (3, 293)


@pytest.mark.parametrize("kind", ["native", "reference"])
def test_what_the_output_does_not_need_is_refused(kind: str) -> None:
    make = rig.native if kind == "native" else rig.reference
    with pytest.raises(MachineError, match="'scores' cannot be tapped"):
        make("bert", rig.PLAIN).tapped(batch_of("bert", "embedding"), ["scores"])


@pytest.mark.parametrize("kind", ["native", "reference"])
def test_bad_batches_are_refused(kind: str) -> None:
    make = rig.native if kind == "native" else rig.reference
    batch = replace(batch_of("qwen3", "logits"), output_rows=np.array([43], np.int32))
    with pytest.raises(MachineError, match="output row 43"):
        make("qwen3", rig.PLAIN).tapped(batch, ["0.q_rope"])


def test_a_machine_that_computes_nothing_has_nothing_to_tap() -> None:
    machine = VirtualMachine(Roofline(1e10, 1e11))
    machine.load(rig.program("qwen3", rig.PLAIN), rig.model("qwen3").weights, pages=rig.PAGES)
    with pytest.raises(MachineError, match="computes nothing"):
        machine.tapped(batch_of("qwen3", "logits"), ["0.q_rope"])
