"""overclock's matrix products: programs of nothing else, timed by the machine's own counters."""

from __future__ import annotations

import numpy as np
from blocks import random_bytes
from worker import Kernels, Settings, Shape, serve, version

from overclock.machine.machine import Batch
from overclock.machine.native import NativeMachine
from overclock.model.formats import Format
from overclock.model.model import Tensor
from overclock.program.isa import Op
from overclock.program.program import Buffer, Element, Instruction, Kind, Operand, Program, Rows
from overclock.program.verify import verify

MOST_ROWS = 512


def program(shape: Shape) -> Program:
    """embed, quantise if the format wants it, then one product after the other into one buffer."""
    format = Format(shape.format)
    integer = format not in (Format.F32, Format.F16, Format.BF16)
    buffers = [
        Buffer("token_ids", Kind.INPUT, 1, Rows.TOKENS),
        Buffer("table", Kind.WEIGHT, shape.inputs, shape=(MOST_ROWS, shape.inputs)),
        Buffer("x", Kind.ACTIVATION, shape.inputs, Rows.TOKENS),
        Buffer("q", Kind.ACTIVATION, shape.inputs, Rows.TOKENS, Element.I8),
        Buffer("y", Kind.ACTIVATION, shape.outputs, Rows.TOKENS),
    ]
    size = (shape.outputs, shape.inputs)
    names = [f"w{index}" for index in range(shape.copies)]
    buffers += [Buffer(w, Kind.WEIGHT, shape.inputs, shape=size, format=format) for w in names]
    steps = [_step(Op.EMBED, {"ids": "token_ids", "table": "table"}, "x")]
    if integer:
        steps.append(_step(Op.QUANTIZE, {"x": "x"}, "q"))
    steps += [_step(Op.MATMUL, {"x": "q" if integer else "x", "w": w}, "y") for w in names]
    return Program(
        name=f"{shape.format} {shape.outputs}×{shape.inputs}",
        instructions=tuple(steps),
        buffers={buffer.name: buffer for buffer in buffers if integer or buffer.name != "q"},
        outputs={"y": Operand("y")},
        constants={},
        context=MOST_ROWS,
        vocabulary=MOST_ROWS,
        exact=False,
    )


def _step(op: Op, inputs: dict[str, str], output: str) -> Instruction:
    given = {role: (Operand(name),) for role, name in inputs.items()}
    return Instruction(op, given, {"y": (Operand(output),)})


class OurKernels(Kernels):
    """The native machine on a program of products."""

    version = version("overclock")

    def __init__(self, settings: Settings) -> None:
        self.threads = settings.threads

    def load(self, shape: Shape) -> None:
        """Build, verify and load the program."""
        made = program(shape)
        verify(made)
        # One to be quantised on load is f32 until then.
        stored = Format.F32 if shape.format == Format.I8 else Format(shape.format)
        data = random_bytes(stored, shape.outputs, shape.inputs, 1)
        table = random_bytes("F32", MOST_ROWS, shape.inputs, 0)
        weights = {"table": Tensor("table", (MOST_ROWS, shape.inputs), Format.F32, table)}
        for index in range(shape.copies):
            name = f"w{index}"
            # A machine may use bits where they are, and then copies must not share them.
            own = data if shape.format == Format.I8 else data.copy()
            weights[name] = Tensor(name, (shape.outputs, shape.inputs), stored, own)
        self.machine = NativeMachine(self.threads)
        self.machine.load(made, weights, pages=0)
        self.copies = shape.copies

    def run(self, rows: int) -> float:
        """Seconds of the products by the counters: an embedding and a copy out do not count."""
        batch = Batch(
            token_ids=np.arange(rows, dtype=np.int32),
            starts=np.array([0, rows], np.int32),
            contexts=np.zeros(1, np.int32),
            pages=np.zeros((1, 0), np.int32),
            output_rows=np.zeros(0, np.int32),
            output="y",
        )
        self.machine.counters()
        self.machine.run(batch)
        seconds = self.machine.counters().seconds[-self.copies :]
        return float(seconds.sum()) / self.copies


if __name__ == "__main__":
    serve(OurKernels)
