"""Finding the weights that a program asks for."""

from __future__ import annotations

from collections.abc import Mapping

from overclock.errors import MachineError
from overclock.model.model import Tensor
from overclock.program.program import Buffer


def weight_of(buffer: Buffer, weights: Mapping[str, Tensor]) -> Tensor:
    """The tensor behind a weight buffer.

    Raises MachineError if it is missing or has another shape than the program says.
    """
    tensor = weights.get(buffer.name)
    if tensor is None:
        raise MachineError(f"the program wants the weight {buffer.name}, but the model has none")
    if tensor.shape != buffer.shape:
        raise MachineError(
            f"the weight {buffer.name} has the shape {list(tensor.shape)}, but the program was "
            f"compiled for {list(buffer.shape)}; compile it for this model"
        )
    return tensor
