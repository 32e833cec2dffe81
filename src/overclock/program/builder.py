"""Writes programs: one method an opcode, buffers named as they appear."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from overclock.errors import ModelError
from overclock.model.formats import Format
from overclock.model.model import Model, Tensor
from overclock.program.isa import Op
from overclock.program.program import Buffer, Instruction, Kind, Operand, Program, Rows
from overclock.program.weights import FLOATS

SMALLEST_QUANTIZED = 32
"""A matrix of fewer rows than this (a classifier's last layer) is not worth quantising on load."""

Attributes = Mapping[str, object]


class Builder:
    """Collects the buffers and instructions of one program.

    Values are passed around by their buffer's name. `layer` is what the instructions now being
    written belong to; it also goes in front of the names of their activations.
    """

    def __init__(
        self,
        model: Model,
        weight_format: Format | None = None,
        adapted: Collection[str] = (),
    ) -> None:
        """Start a program.

        weight_format: what floating-point matrices are held in, None for their own.
        adapted: names of the matrices that adapters may change.
        """
        self.layer: int | None = None
        self._model = model
        self._weight_format = weight_format
        self._adapted = frozenset(adapted)
        self._instructions: list[Instruction] = []
        self._buffers: dict[str, Buffer] = {}
        self._constants: dict[str, tuple[float, ...]] = {}

    # -- buffers that hold something from the start -------------------------------------------

    def has(self, weight: str) -> bool:
        """Whether the model has a tensor of this name."""
        return weight in self._model.weights

    def input(self, name: str) -> str:
        """Integers of the batch, ``i32[T]``."""
        return self._buffer(Buffer(name, Kind.INPUT, 1, Rows.TOKENS))

    def vector(self, name: str, columns: int) -> str:
        """A tensor of one dimension, ``f32[columns]``. Raises ModelError if it is another."""
        self._tensor(name, (columns,))
        return self._buffer(Buffer(name, Kind.WEIGHT, columns, shape=(columns,)))

    def table(self, name: str, columns: int) -> str:
        """A matrix whose rows are looked up, ``[any, columns]``, in the tensor's own format."""
        tensor = self._tensor(name, (None, columns))
        return self._buffer(
            Buffer(name, Kind.WEIGHT, columns, shape=tensor.shape, format=tensor.format)
        )

    def matrix(self, name: str, rows: int, columns: int) -> str:
        """A matrix to multiply by, ``[rows, columns]``; quantised on load if that was asked for.

        A table that is looked up as well keeps its own format, since both uses share the memory.
        """
        tensor = self._tensor(name, (rows, columns))
        if name in self._buffers:
            return name
        return self._buffer(
            Buffer(name, Kind.WEIGHT, columns, shape=tensor.shape, format=self._format(tensor))
        )

    def constant(self, name: str, values: tuple[float, ...]) -> str:
        """Numbers made by the compiler, ``f32[len(values)]``."""
        self._constants[name] = values
        return self._buffer(Buffer(name, Kind.CONSTANT, len(values), shape=(len(values),)))

    def cache(self, name: str, kv_heads: int, head_dim: int) -> str:
        """The KV pages of one layer."""
        shape = (kv_heads, head_dim)
        return self._buffer(Buffer(name, Kind.CACHE, kv_heads * head_dim, shape=shape))

    # -- instructions -------------------------------------------------------------------------

    def embed(self, name: str, ids: str, table: str, *, scale: float = 1.0, offset: int = 0) -> str:
        """Looked up: scale · table[ids + offset], ``f32[T, columns of the table]``."""
        columns = self._buffers[table].columns
        attributes = {"scale": float(scale), "offset": offset}
        inputs = {"ids": ids, "table": table}
        return self._emit(Op.EMBED, inputs, name, columns, Rows.TOKENS, attributes)

    def add(self, name: str, a: str, b: str) -> str:
        """The sum a + b."""
        return self._rowwise(Op.ADD, {"a": a, "b": b}, name)

    def rmsnorm(self, name: str, x: str, weight: str, *, heads: int = 1) -> str:
        """`x` normalised over each of `heads` parts of its rows, times the tensor `weight`."""
        w = self.vector(weight, self._buffers[x].columns // heads)
        attributes = {"epsilon": self._model.config.norm_epsilon, "heads": heads}
        return self._rowwise(Op.RMSNORM, {"x": x, "w": w}, name, attributes)

    def layernorm(self, name: str, x: str, prefix: str) -> str:
        """`x` normalised, with the tensors ``prefix.weight`` and ``prefix.bias``."""
        columns = self._buffers[x].columns
        w, b = (self.vector(f"{prefix}.{part}", columns) for part in ("weight", "bias"))
        attributes = {"epsilon": self._model.config.norm_epsilon}
        return self._rowwise(Op.LAYERNORM, {"x": x, "w": w, "b": b}, name, attributes)

    def linear(
        self, name: str, x: str, prefix: str, columns: int, *, bias: str | None = None
    ) -> str:
        """`x` times the matrix ``prefix.weight``, plus the tensor `bias`.

        `bias` defaults to ``prefix.bias`` if there is one. If adapters may change the matrix, what
        they change is added.
        """
        w = self.matrix(f"{prefix}.weight", columns, self._buffers[x].columns)
        inputs = {"x": x, "w": w}
        bias = f"{prefix}.bias" if bias is None else bias
        if self.has(bias):
            inputs["bias"] = self.vector(bias, columns)
        if w not in self._adapted:
            return self._emit(Op.MATMUL, inputs, name, columns, self._rows(x))
        a = self._emit(Op.MATMUL, inputs, f"{name}_base", columns, self._rows(x))
        return self._emit(Op.ADAPT, {"x": x, "a": a}, name, columns, self._rows(x), {"site": w})

    def activate(self, name: str, x: str, activation: str) -> str:
        """The activation of x, elementwise."""
        return self._rowwise(Op.ACTIVATE, {"x": x}, name, {"activation": activation})

    def gate(self, name: str, gate: str, up: str, activation: str) -> str:
        """The product activation(gate) · up."""
        return self._rowwise(Op.GATE, {"gate": gate, "up": up}, name, {"activation": activation})

    def rope(self, name: str, x: str, frequencies: str, *, heads: int, style: str) -> str:
        """`x` turned by its position."""
        attributes = {"heads": heads, "style": style}
        return self._rowwise(Op.ROPE, {"x": x, "frequencies": frequencies}, name, attributes)

    def store(self, k: str, v: str, cache: str) -> None:
        """Put k and v into the KV pages."""
        attributes = {"heads": self._buffers[cache].shape[0]}
        self._append(Op.STORE, {"k": k, "v": v}, {"cache": cache}, attributes)

    def attend(self, name: str, q: str, cache: str, attributes: Attributes) -> str:
        """Attention of `q` over the past; see the opcode for its attributes."""
        return self._rowwise(Op.ATTEND, {"q": q, "cache": cache}, name, attributes)

    def attend_all(self, name: str, qkv: tuple[str, str, str], *, heads: int, scale: float) -> str:
        """Attention over the whole sequence."""
        inputs = dict(zip(("q", "k", "v"), qkv, strict=True))
        return self._rowwise(Op.ATTEND_ALL, inputs, name, {"heads": heads, "scale": scale})

    def select(self, name: str, x: str) -> str:
        """The rows whose output is wanted, ``f32[L, columns of x]``."""
        return self._emit(Op.SELECT, {"x": x}, name, self._buffers[x].columns, Rows.SELECTED)

    def pool(self, name: str, x: str, method: str) -> str:
        """One row a sequence, ``f32[S, columns of x]``."""
        columns = self._buffers[x].columns
        return self._emit(Op.POOL, {"x": x}, name, columns, Rows.SEQUENCES, {"method": method})

    def normalize(self, name: str, x: str) -> str:
        """`x` scaled to length 1."""
        return self._rowwise(Op.NORMALIZE, {"x": x}, name)

    # -- the result ---------------------------------------------------------------------------

    def program(self, outputs: Mapping[str, str]) -> Program:
        """What has been written; `outputs` maps the name of an output to its buffer."""
        config = self._model.config
        return Program(
            name=self._model.name,
            instructions=tuple(self._instructions),
            buffers=self._buffers,
            outputs={name: Operand(buffer) for name, buffer in outputs.items()},
            constants=self._constants,
            context=config.context,
            vocabulary=config.vocabulary,
            exact=True,
        )

    # -- inside -------------------------------------------------------------------------------

    def _tensor(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        tensor = self._model.weights.get(name)
        if tensor is None:
            raise ModelError(
                f"{self._model.name} has no tensor {name}: the model is incomplete or of another "
                f"kind than its configuration says ({self._model.config.architecture})"
            )
        fits = len(shape) == len(tensor.shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ModelError(
                f"tensor {name} of {self._model.name} has the shape {list(tensor.shape)}, but its "
                f"configuration asks for [{wanted}]; the files do not belong together"
            )
        return tensor

    def _format(self, tensor: Tensor) -> Format:
        wanted = self._weight_format
        if wanted is None or tensor.format not in FLOATS or tensor.shape[0] < SMALLEST_QUANTIZED:
            return tensor.format
        return wanted

    def _buffer(self, buffer: Buffer) -> str:
        return self._buffers.setdefault(buffer.name, buffer).name

    def _rows(self, name: str) -> Rows:
        rows = self._buffers[name].rows
        assert rows is not None, f"{name} has no rows"
        return rows

    def _append(
        self, op: Op, inputs: Mapping[str, str], outputs: Mapping[str, str], attributes: Attributes
    ) -> None:
        self._instructions.append(
            Instruction(
                op,
                {role: (Operand(name),) for role, name in inputs.items()},
                {role: (Operand(name),) for role, name in outputs.items()},
                dict(attributes),
                self.layer,
            )
        )

    def _emit(
        self,
        op: Op,
        inputs: Mapping[str, str],
        name: str,
        columns: int,
        rows: Rows,
        attributes: Attributes | None = None,
    ) -> str:
        full = name if self.layer is None else f"{self.layer}.{name}"
        assert full not in self._buffers, f"{full} is written twice"
        self._buffers[full] = Buffer(full, Kind.ACTIVATION, columns, rows)
        self._append(op, inputs, {"y": full}, attributes or {})
        return full

    def _rowwise(
        self, op: Op, inputs: Mapping[str, str], name: str, attributes: Attributes | None = None
    ) -> str:
        """An instruction whose output has the rows and columns of its first input."""
        first = next(iter(inputs.values()))
        columns = self._buffers[first].columns
        return self._emit(op, inputs, name, columns, self._rows(first), attributes)
