"""The tempo of a data sheet against the virtual machine, which costs every instruction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock.machine.machine import Batch
from overclock.machine.virtual import Roofline, VirtualMachine
from overclock.model.load import load
from overclock.program.compiler import compile
from overclock.program.program import PAGE_TOKENS, KvFormat
from overclock.simulate.tempo import RooflineTempo, ideal_tempo
from tests.checkpoints import FIXTURES

# Slow operations, slow memory, and both in balance; int8 products have their own limit.
LIMITS = [Roofline(1e12, 1e6, 3e6), Roofline(1e6, 1e12), Roofline(2e7, 1e8, 5e8)]


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "qwen3"])
@pytest.mark.parametrize("kv", ["f16", "i8"])
def test_runs_take_what_the_virtual_machine_says(name: str, kv: KvFormat) -> None:
    program = compile(load(FIXTURES / name))
    rng = np.random.default_rng(5)
    for limits in LIMITS:
        machine = VirtualMachine(limits, kv)
        machine.load(program, {}, pages=256)
        tempo = RooflineTempo(program, limits, kv)
        for sequences in (1, 1, 2, 7):
            for longest in (1, 9):
                lengths = rng.integers(1, longest + 1, sequences).astype(np.int32)
                contexts = rng.integers(0, program.context - longest, sequences).astype(np.int32)
                selected = int(rng.integers(1, lengths.sum() + 1))
                machine.run(_batch(lengths, contexts, selected))
                predicted = tempo.run(lengths, contexts, selected)
                assert predicted == pytest.approx(machine.last_seconds, rel=1e-9)


def _batch(lengths: NDArray[np.int32], contexts: NDArray[np.int32], selected: int) -> Batch:
    tokens = int(lengths.sum())
    most = -(-int((lengths + contexts).max()) // PAGE_TOKENS)
    pages = np.arange(len(lengths) * most, dtype=np.int32).reshape(len(lengths), most)
    return Batch(
        token_ids=np.zeros(tokens, np.int32),
        starts=np.concatenate(([0], np.cumsum(lengths))).astype(np.int32),
        contexts=contexts,
        pages=pages,
        output_rows=np.arange(selected, dtype=np.int32),
        output="logits",
    )


SHEET = {
    "read_bandwidth_gbs": {"1": 10.0, "4": 40.0},
    "f32_gflops": {"1": 50.0, "4": 200.0},
    "int8_gops": {"1": 200.0, "4": 800.0},
    "cpu": "a processor",
}


def test_another_computer_by_its_sheet(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.json"
    sheet.write_text(json.dumps(SHEET))
    program = compile(load(FIXTURES / "llama"))
    one, four = (ideal_tempo(program, "f16", threads, sheet) for threads in (1, 4))
    batch = np.array([5], np.int32), np.array([3], np.int32), 1
    assert one.run(*batch) == pytest.approx(4 * four.run(*batch))
