"""The real models of the tests, fetched once, and texts that may lie beside the checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from overclock.errors import SourceError
from overclock.model.load import load
from overclock.model.model import Model

_TEXTS = Path(__file__).parents[3] / "shared" / "data" / "perplexity"


@cache
def real(name: str) -> Model:
    """An alias's model; the test is skipped if it is not here and cannot be had."""
    try:
        return load(name)
    except SourceError as error:
        pytest.skip(str(error))


def text(name: str) -> str:
    """A text to measure perplexity on; the test is skipped if it is not there."""
    path = _TEXTS / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path.read_text("utf-8")
