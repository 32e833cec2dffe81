"""Every instruction-set tier multiplies by every number format as the reference machine does."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from overclock.machine.machine import Batch, Machine
from overclock.machine.reference import ReferenceMachine
from overclock.model.formats import LAYOUTS, Format, byte_size
from overclock.model.model import Tensor
from overclock.program.isa import Op
from overclock.program.program import Buffer, Element, Instruction, Kind, Operand, Program, Rows
from overclock.program.verify import verify
from tests.machine import rig

pytest.importorskip("overclock._native")
NATIVE = importlib.import_module("overclock.machine.native")
TIERS: list[str] = NATIVE.tiers()

ROWS, TOKENS, COLUMNS = 45, 21, 512
SCALES = {
    Format.Q2_K: (80, 82),
    Format.Q3_K: (108,),
    Format.Q6_K: (208,),
    Format.Q4_1: (0, 2),
    Format.Q5_1: (0, 2),
    Format.Q4_K: (0, 2),
    Format.Q5_K: (0, 2),
}
"""Where a block has its 16-bit scales; the others have one at the start."""


def blocks(format: Format, seed: int) -> Tensor:
    """A matrix whose blocks are random but for scales of a sensible size."""
    random = np.random.default_rng(seed)
    shape = (ROWS, COLUMNS)
    if format in (Format.F32, Format.F16):
        values = random.normal(size=shape).astype("<f4" if format is Format.F32 else "<f2")
        return Tensor("w", shape, format, values.view(np.uint8).reshape(-1))
    data = random.integers(0, 256, byte_size(format, ROWS * COLUMNS), np.uint8)
    table = data.reshape(-1, LAYOUTS[format].bytes)
    if format is Format.BF16:
        table[:, 1] = random.integers(0x3D, 0x40, len(table)) | (table[:, 1] & 0x80)
        return Tensor("w", shape, format, data)
    for place in SCALES.get(format, (0,)):
        scales = random.uniform(0.01, 0.02, len(table)).astype("<f2")
        table[:, place : place + 2] = scales.view(np.uint8).reshape(-1, 2)
    return Tensor("w", shape, format, data)


def product(element: Element, format: Format) -> Program:
    """Rows of a table, rounded to `element`, times a matrix held in `format`."""
    x, ids = Operand("x"), {"ids": (Operand("token_ids"),), "table": (Operand("table"),)}
    instructions = [Instruction(Op.EMBED, ids, {"y": (x,)})]
    buffers = [
        Buffer("token_ids", Kind.INPUT, 1, Rows.TOKENS),
        Buffer("table", Kind.WEIGHT, COLUMNS, shape=(TOKENS, COLUMNS)),
        Buffer("w", Kind.WEIGHT, COLUMNS, shape=(ROWS, COLUMNS), format=format),
        Buffer("x", Kind.ACTIVATION, COLUMNS, Rows.TOKENS),
        Buffer("y", Kind.ACTIVATION, ROWS, Rows.TOKENS),
    ]
    if element is not Element.F32:
        buffers.append(Buffer("q", Kind.ACTIVATION, COLUMNS, Rows.TOKENS, element))
        instructions.append(Instruction(Op.QUANTIZE, {"x": (x,)}, {"y": (Operand("q"),)}))
        x = Operand("q")
    y = Operand("y")
    instructions.append(Instruction(Op.MATMUL, {"x": (x,), "w": (Operand("w"),)}, {"y": (y,)}))
    return Program(
        name="product",
        instructions=tuple(instructions),
        buffers={buffer.name: buffer for buffer in buffers},
        outputs={"y": y},
        constants={},
        context=TOKENS,
        vocabulary=TOKENS,
        exact=element is Element.F32,
    )


def run(machine: Machine, program: Program, w: Tensor, tokens: int) -> rig.Array:
    """The product of the first rows of the table."""
    table = np.random.default_rng(7).normal(size=(TOKENS, COLUMNS)).astype("<f4")
    x = Tensor("table", table.shape, Format.F32, table.view(np.uint8).reshape(-1))
    machine.load(program, {"table": x, "w": w}, pages=0)
    ids = np.arange(tokens, dtype=np.int32)
    return machine.run(rig.encoder_batch([ids], "y"))


HELD = [
    *((format, format) for format in LAYOUTS),
    *((format, Format.I8) for format in (Format.F32, Format.F16, Format.BF16)),
]
CASES = [
    (stored, held, element)
    for stored, held in HELD
    for element in Element
    if element is Element.F32 or held not in (Format.F32, Format.F16, Format.BF16)
]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("stored", "held", "element"), CASES, ids=str)
def test_products_agree(stored: Format, held: Format, element: Element, tier: str) -> None:
    weight = blocks(stored, seed=3)
    program = product(element, held)
    verify(program)
    wanted = run(ReferenceMachine(), program, weight, TOKENS)
    for tokens in (1, 2, 4, 5, TOKENS):
        for threads in (1, 2):
            values = run(NATIVE.NativeMachine(threads, tier=tier), program, weight, tokens)
            rig.assert_near(values, wanted[:tokens], 3e-5)


def test_the_best_tier_is_the_default() -> None:
    assert NATIVE.NativeMachine(1).tier == TIERS[0]
    assert TIERS[-1] == "portable"


def test_int8_activations_are_refused_for_float_weights() -> None:
    machine = NATIVE.NativeMachine(1)
    with pytest.raises(NATIVE.MachineError, match="quantised weight"):
        run(machine, product(Element.I8, Format.F32), blocks(Format.F32, seed=3), 2)


def test_a_context_beyond_32_bits_is_refused() -> None:
    machine = rig.native("llama", rig.EXACT)
    ids = np.zeros(2, np.int32)
    batch = rig.decoder_batch([ids], [0], rig.page_table([2]), [(0, 2)])
    far = Batch(
        batch.token_ids,
        batch.starts,
        np.array([2**31 - 1], np.int32),
        batch.pages,
        batch.output_rows,
        batch.output,
    )
    with pytest.raises(NATIVE.MachineError):
        machine.run(far)
