"""Rewrites of a program, one a file, each switched on and off by its name."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from overclock.program.passes import (
    adapt_in_place,
    adapt_late,
    fuse_activation,
    fuse_gate,
    fuse_quantize,
    fuse_residual,
    fuse_rope_store,
    merge_projections,
    quantize_activations,
    remove_dead,
    select_early,
)
from overclock.program.program import Program


class Pass(NamedTuple):
    """One rewrite: what it is called, what it gains, whether it rounds activations to int8."""

    name: str
    gain: str
    quantizes: bool
    apply: Callable[[Program], Program]


def _entry(module: ModuleType, quantizes: bool = False) -> Pass:
    return Pass(module.NAME, str(module.__doc__).partition("\n")[0], quantizes, module.apply)


PASSES: tuple[Pass, ...] = (
    _entry(adapt_late),
    _entry(select_early),
    _entry(fuse_gate),
    _entry(merge_projections),
    _entry(fuse_activation),
    _entry(fuse_rope_store),
    _entry(fuse_residual),
    _entry(adapt_in_place),
    _entry(quantize_activations, quantizes=True),
    _entry(fuse_quantize, quantizes=True),
    _entry(remove_dead),
)
"""All passes in the order in which they are applied."""
