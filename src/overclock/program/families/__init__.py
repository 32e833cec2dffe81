"""What writes the plain program of one family of models."""

from collections.abc import Collection, Mapping
from typing import Protocol

from overclock.model.formats import Format
from overclock.model.model import Model
from overclock.program.families import bert, llama
from overclock.program.program import Program


class Writer(Protocol):
    """Writes the plain program of a model; see `builder.Builder` for the arguments."""

    def __call__(
        self, model: Model, weight_format: Format | None = None, adapted: Collection[str] = ()
    ) -> Program:
        """The program."""


FAMILIES: Mapping[str, Writer] = {
    "llama": llama.write,
    "bert": bert.write,
}
"""The writer of each family that `Config.family` may name."""
