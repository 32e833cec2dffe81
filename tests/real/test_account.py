"""Traces and predictions of the real models; how good they are is for the benchmarks to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from overclock.cli import trace, whatif
from overclock.machine import limits
from overclock.trace.reading import read_document
from tests.predict import rig
from tests.real.models import real

pytestmark = pytest.mark.real

pytest.importorskip("overclock._native")


def run(command: Any, *words: str) -> Any:
    result = CliRunner().invoke(command, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("model", "words", "kind"),
    [
        ("smollm2", ("Why is the sky blue?", "-n", "8"), "run"),
        ("smollm2", ("Why is the sky blue?", "-n", "4", "--streams", "3"), "streams"),
        ("minilm", ("A cat sleeps.", "Stocks fell.", "--encoder"), "encoder"),
    ],
)
def test_a_trace_reads_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, words: tuple[str, ...], kind: str
) -> None:
    real(model)
    monkeypatch.setattr(limits, "load_or_measure", lambda threads: rig.limits(cores=threads))
    path = tmp_path / "trace.json"
    found = run(trace.command, *words, "-m", model, "-o", str(path))
    assert read_document(path) == found
    assert found["kind"] == kind
    assert 0.0 < found["accounted_share"] <= 1.0
    moved = sum(each["weight_bytes"] for each in found["instructions"])
    runs = max(each["runs"] for each in found["instructions"])
    assert 0 < moved <= runs * found["model"]["weight_bytes"] * 1.1


@pytest.mark.parametrize("model", ["smollm2", "minilm"])
def test_changes_have_what_a_user_wants_to_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str
) -> None:
    real(model)
    rig.tiny(monkeypatch, tmp_path)
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path))
    words = ("-m", str(real(model).path), "--without-layers", "2", "--stream-counts", "4")
    found = run(whatif.command, *words)
    kinds = [each["kind"] for each in found["changes"]]
    assert sorted(kinds) == ["layers", "streams"]
    for each in (found["base"], *found["changes"]):
        assert 0 < each["low"] <= each["speed"] <= each["high"]
        assert each["memory"] > 10_000_000
        assert each["limit"] > 0
