"""llama.cpp's matrix products: graphs of ggml_mul_mat, through the libraries of its Python binding.

Weights go where llama.cpp itself would put them: into the first of the processor's extra buffer
types that supports the product (its repacked layouts), else into plain memory.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from importlib import util
from pathlib import Path

import numpy as np
from blocks import random_bytes
from worker import Kernels, Settings, Shape, serve, version

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14}
"""enum ggml_type of ggml.h."""

BUFFER_FIELD = 8
"""Where a ggml_tensor keeps the buffer it is in: after its type, aligned."""

P, N = c_void_p, c_size_t
SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "ggml_free": (None, (P,)),
    "ggml_new_tensor_2d": (P, (P, c_int, c_int64, c_int64)),
    "ggml_mul_mat": (P, (P, P, P)),
    "ggml_new_graph_custom": (P, (P, N, c_bool)),
    "ggml_build_forward_expand": (None, (P, P)),
    "ggml_nbytes": (N, (P,)),
    "ggml_backend_cpu_init": (P, ()),
    "ggml_backend_cpu_set_n_threads": (None, (P, c_int)),
    "ggml_backend_cpu_reg": (P, ()),
    "ggml_backend_cpu_buffer_type": (P, ()),
    "ggml_backend_reg_dev_get": (P, (P, N)),
    "ggml_backend_reg_get_proc_address": (P, (P, c_char_p)),
    "ggml_backend_dev_supports_op": (c_bool, (P, P)),
    "ggml_backend_buft_alloc_buffer": (P, (P, N)),
    "ggml_backend_buffer_free": (None, (P,)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (P, (P, P)),
    "ggml_backend_tensor_set": (None, (P, P, N, N)),
    "ggml_backend_graph_compute": (c_int, (P, P)),
}


class Parameters(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("mem_size", N), ("mem_buffer", P), ("no_alloc", c_bool))


def libraries() -> list[ctypes.CDLL]:
    """ggml's libraries, found without importing the binding."""
    spec = util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "lib"
    names = ("libggml-base.so", "libggml-cpu.so", "libggml.so")
    return [ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in names]


class Ggml:
    """The functions of SIGNATURES as methods, and what is made of them."""

    def __init__(self) -> None:
        loaded = libraries()
        for name, (result, arguments) in SIGNATURES.items():
            function = next(getattr(lib, name) for lib in loaded if hasattr(lib, name))
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("ggml_"), function)
        self._init = loaded[0].ggml_init
        self._init.restype, self._init.argtypes = P, (Parameters,)

    def context(self) -> int:
        """Room for the descriptions of tensors and a graph, not for their data."""
        return int(self._init(Parameters(64 << 20, None, True)))

    def extra_buffer_types(self) -> Iterator[int]:
        """What the processor's backend has beside plain memory, best first."""
        registry = self.backend_cpu_reg()
        address = self.backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
        device = self.backend_reg_dev_get(registry, 0)
        found = ctypes.CFUNCTYPE(POINTER(P), P)(address)(device) if address else None
        index = 0
        while found and found[index]:
            yield found[index]
            index += 1

    def supports(self, kind: int, weight: int, product: int) -> bool:
        """Whether the product can be computed with its weight in a buffer of this kind."""
        buffer = self.backend_buft_alloc_buffer(kind, 0)
        field = P.from_address(weight + BUFFER_FIELD)
        field.value = buffer
        device = self.backend_reg_dev_get(self.backend_cpu_reg(), 0)
        able = bool(self.backend_dev_supports_op(device, product))
        field.value = None
        self.backend_buffer_free(buffer)
        return able


class GgmlKernels(Kernels):
    """ggml's CPU backend on a graph of products."""

    version = f"llama-cpp-python {version('llama-cpp-python')}"

    def __init__(self, settings: Settings) -> None:
        self.ggml = Ggml()
        self.backend = self.ggml.backend_cpu_init()
        self.ggml.backend_cpu_set_n_threads(self.backend, settings.threads)
        self.held: list[tuple[int, int]] = []

    def load(self, shape: Shape) -> None:
        """Make the matrices and put them into the memory llama.cpp would choose."""
        if shape.format not in TYPES:
            raise LookupError(f"ggml has no {shape.format}")
        data = random_bytes(shape.format, shape.outputs, shape.inputs, 0)
        self._free(0)
        context = self.ggml.context()
        size = TYPES[shape.format], shape.inputs, shape.outputs
        self.weights = [self.ggml.new_tensor_2d(context, *size) for _ in range(shape.copies)]
        self._place(context, self._kind(shape))
        assert self.ggml.nbytes(self.weights[0]) == data.nbytes
        for weight in self.weights:
            self.ggml.backend_tensor_set(weight, data.ctypes.data, 0, data.nbytes)
        self.inputs = shape.inputs

    def run(self, rows: int) -> float:
        """Seconds of the graph over its products; the second of two runs, as its threads wake."""
        context = self.ggml.context()
        x = self.ggml.new_tensor_2d(context, TYPES["F32"], self.inputs, rows)
        graph = self.ggml.new_graph_custom(context, 4096, False)
        for weight in self.weights:
            product = self.ggml.mul_mat(context, weight, x)
            self.ggml.build_forward_expand(graph, product)
        self._place(context, self.ggml.backend_cpu_buffer_type())
        values = np.random.default_rng(rows).standard_normal((rows, self.inputs), np.float32)
        self.ggml.backend_tensor_set(x, values.ctypes.data, 0, values.nbytes)
        for _ in range(2):
            begin = time.perf_counter()
            status = self.ggml.backend_graph_compute(self.backend, graph)
            seconds = time.perf_counter() - begin
        self._free(1)
        if status:
            raise RuntimeError(f"ggml_backend_graph_compute returned {status}")
        return seconds / len(self.weights)

    def _kind(self, shape: Shape) -> int:
        """The buffer type llama.cpp would choose for the weights."""
        context = self.ggml.context()
        weight = self.ggml.new_tensor_2d(context, TYPES[shape.format], shape.inputs, shape.outputs)
        x = self.ggml.new_tensor_2d(context, TYPES["F32"], shape.inputs, 512)
        product = self.ggml.mul_mat(context, weight, x)
        kinds = self.ggml.extra_buffer_types()
        plain = self.ggml.backend_cpu_buffer_type()
        chosen = next((k for k in kinds if self.ggml.supports(k, weight, product)), plain)
        self.ggml.free(context)
        return int(chosen)

    def _place(self, context: int, kind: int) -> None:
        buffer = self.ggml.backend_alloc_ctx_tensors_from_buft(context, kind)
        if not buffer:
            raise MemoryError("ggml could not allocate the tensors")
        self.held.append((context, buffer))

    def _free(self, keep: int) -> None:
        """Give back all but the `keep` oldest contexts."""
        while len(self.held) > keep:
            context, buffer = self.held.pop()
            self.ggml.backend_buffer_free(buffer)
            self.ggml.free(context)


if __name__ == "__main__":
    serve(GgmlKernels)
