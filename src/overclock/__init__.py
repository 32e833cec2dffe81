"""overclock: run a language model on the computer one has, and see where every cycle goes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overclock.async_engine import AsyncLLM
    from overclock.clock.completion import Completion, Piece, Timing, Usage
    from overclock.clock.settings import ClockSettings
    from overclock.encoder import Encoder
    from overclock.engine import LLM
    from overclock.errors import OverclockError, OverloadError

__all__ = [
    "LLM",
    "AsyncLLM",
    "ClockSettings",
    "Completion",
    "Encoder",
    "OverclockError",
    "OverloadError",
    "Piece",
    "Timing",
    "Usage",
]

_HOMES = {
    "LLM": "overclock.engine",
    "AsyncLLM": "overclock.async_engine",
    "ClockSettings": "overclock.clock.settings",
    "Encoder": "overclock.encoder",
    "Completion": "overclock.clock.completion",
    "Piece": "overclock.clock.completion",
    "Timing": "overclock.clock.completion",
    "Usage": "overclock.clock.completion",
    "OverclockError": "overclock.errors",
    "OverloadError": "overclock.errors",
}


def __getattr__(name: str) -> object:
    """Import the face of the package only when it is asked for: commands start faster so."""
    if name not in _HOMES:
        raise AttributeError(f"module 'overclock' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
