"""What writes the plain program of one family of models."""

from collections.abc import Callable, Mapping

from overclock.model.formats import Format
from overclock.model.model import Model
from overclock.program.families import bert, llama
from overclock.program.program import Program

FAMILIES: Mapping[str, Callable[[Model, Format | None], Program]] = {
    "llama": llama.write,
    "bert": bert.write,
}
"""The writer of each family that `Config.family` may name."""
