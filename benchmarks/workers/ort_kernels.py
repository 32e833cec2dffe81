"""ONNX Runtime's matrix products: a graph of single nodes, each with its own weight.

Q4_0 and Q4_1 are its MatMulNBits in groups of 32 with int8 arithmetic (without and with a zero
point), Q8_0 the same in 8 bits, I8 its DynamicQuantizeMatMul, F32 its MatMul.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from worker import Kernels, Settings, Shape, serve

Weights = dict[str, NDArray[np.generic]]

NBITS = {"Q4_0": (4, False), "Q4_1": (4, True), "Q8_0": (8, False)}


def weights(shape: Shape) -> tuple[str, Weights, dict[str, int]]:
    """The operator, its constant inputs in order and its attributes."""
    random = np.random.default_rng(0)
    outputs, inputs = shape.outputs, shape.inputs
    if shape.format == "F32":
        return "MatMul", {"b": random.standard_normal((inputs, outputs), np.float32)}, {}
    if shape.format == "I8":
        matrix = random.integers(-127, 128, (inputs, outputs), np.int8)
        scales = np.full(outputs, 0.001, np.float32)
        points = np.zeros(outputs, np.int8)
        return "DynamicQuantizeMatMul", {"b": matrix, "scale": scales, "zero": points}, {}
    bits, zero = NBITS[shape.format]
    groups = inputs // 32
    packed = random.integers(0, 256, (outputs, groups, 4 * bits), np.uint8)
    given: Weights = {"b": packed, "scale": np.full(outputs * groups, 0.001, np.float32)}
    if zero:
        given["zero"] = random.integers(0, 256, outputs * -(-groups * bits // 8), np.uint8)
    sizes = {"K": inputs, "N": outputs, "bits": bits, "block_size": 32, "accuracy_level": 4}
    return "MatMulNBits", given, sizes


def graph(shape: Shape) -> bytes:
    """A model of `copies` products of one input. Of each only the first row leaves the graph."""
    nodes, constants, results = [], [numpy_helper.from_array(np.array([0]), "first")], []
    op, given, attributes = weights(shape)
    for index in range(shape.copies):
        names = [f"{name}{index}" for name in given]
        constants += map(numpy_helper.from_array, given.values(), names)
        domain = "" if op == "MatMul" else "com.microsoft"
        nodes.append(
            helper.make_node(op, ["x", *names], [f"y{index}"], domain=domain, **attributes)
        )
        nodes.append(helper.make_node("Gather", [f"y{index}", "first"], [f"row{index}"], axis=0))
        row = [1, shape.outputs]
        results.append(helper.make_tensor_value_info(f"row{index}", TensorProto.FLOAT, row))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", shape.inputs])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_graph(nodes, "products", [x], results, constants)
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())


class OrtKernels(Kernels):
    """A session over the graph."""

    version = onnxruntime.__version__

    def __init__(self, settings: Settings) -> None:
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = settings.threads

    def load(self, shape: Shape) -> None:
        """Build the graph and a session on it."""
        if shape.format not in (*NBITS, "I8", "F32"):
            raise LookupError(f"ONNX Runtime has no {shape.format}")
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(graph(shape), self.options, providers=providers)

    def run(self, rows: int) -> float:
        """Seconds of the whole graph over its products."""
        random = np.random.default_rng(rows)
        x = random.standard_normal((rows, self.session.get_inputs()[0].shape[1]), np.float32)
        begin = time.perf_counter()
        found = self.session.run(None, {"x": x})
        return (time.perf_counter() - begin) / len(found)


if __name__ == "__main__":
    serve(OrtKernels)
