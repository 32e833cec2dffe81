"""What the tests of explanations share: fixtures opened once, and texts for them."""

from __future__ import annotations

from functools import cache

import pytest

from overclock.explain.explainer import Explainer
from overclock.machine.choose import MachineName
from overclock.model.load import load
from overclock.model.model import Model
from tests.checkpoints import FIXTURES

DECODERS = ["llama", "mistral", "qwen2", "qwen3", "gemma3", "llama-gguf"]
ENCODERS = ["bert", "bert-sequence", "bert-mean", "roberta-token", "distilbert-sequence"]
TEXT = "once upon a time the quick brown fox was here"


@cache
def model(name: str) -> Model:
    file = FIXTURES / name / "model.gguf"
    return load(file if file.exists() else FIXTURES / name)


@cache
def explainer(name: str, machine: MachineName = "native") -> Explainer:
    """A fixture on a machine; skips the test if the core is not built."""
    if machine == "native":
        pytest.importorskip("overclock._native")
    return Explainer(model(name), 2, machine=machine)


def ids_of(name: str, text: str = TEXT) -> list[int]:
    return model(name).tokenizer.encode(text)[:60]
