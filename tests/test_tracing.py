"""Traces of real engines on the tiny checkpoints: whole, readable, and nothing beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overclock import LLM, Encoder
from overclock.errors import InputError
from overclock.machine import limits
from overclock.trace.document import Json
from overclock.trace.reading import Document, read_document
from overclock.trace.recorder import Recorder
from overclock.tracing import trace_answer, trace_streams, trace_texts, watching
from tests.checkpoints import FIXTURES
from tests.predict import rig


@pytest.fixture(autouse=True)
def known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "load_or_measure", lambda threads: rig.limits(cores=threads))


@pytest.fixture(params=["native", "reference"])
def machine(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        pytest.importorskip("overclock._native")
    return str(request.param)


def checked(found: Json, folder: Path, kind: str) -> Document:
    """The document as its reader gives it, with what any trace has."""
    path = folder / "trace.json"
    path.write_text(json.dumps(found))
    document = read_document(path)
    assert document["kind"] == kind
    assert 0.0 < document["accounted_share"] <= 1.0
    assert document["accounted_s"] <= document["wall_s"]
    assert document["limit_share"] > 0
    stages = ("fetch", "decode", "execute", "write_back")
    for tick in document["ticks"]:
        assert tick["start"] >= 0
        assert tick["start"] + sum(tick[stage] for stage in stages) <= document["wall_s"]
        inside = sum(tick[name] for name in ("call", "prepare", "turn", "finish"))
        assert tick["choose"] + tick["text"] <= tick["write_back"]
        # Two timers differ by some parts of a million.
        assert inside + 1e-9 * sum(tick["ns"]) <= tick["execute"] * 1.001 + 1e-6
        assert tick["memory"] > 0
    for each in document["requests"]:
        times = [each[name] for name in ("arrived", "admitted", "first_token", "last_token")]
        assert [*times, each["ended"]] == sorted([*times, each["ended"]])
    assert sum(each["tokenize"] for each in document["requests"]) > 0
    return document


def test_one_answer(machine: str, tmp_path: Path) -> None:
    with LLM(FIXTURES / "llama", 1, machine=machine) as llm:  # type: ignore[arg-type]
        found, completion = trace_answer(llm, "hello world", 8)
        usage = completion.usage
        document = checked(found, tmp_path, "run")
        assert document["what"] == {
            "prompt_tokens": usage.prompt_tokens,
            "tokens": usage.completion_tokens,
        }
        assert sum(tick["tokens"] for tick in document["ticks"]) == usage.completion_tokens
        assert document["machine"]["name"] == machine
        assert document["load"]["seconds"] > 0
        assert {part["name"] for part in document["load"]["parts"]} == {
            *("files", "text", "compile", "pack weights")
        }
        assert llm.clock.roster.requests is None, "somebody still watches"
        assert (document["wait_s"] == 0.0) or machine == "native"


def test_streams(tmp_path: Path) -> None:
    with LLM(FIXTURES / "llama", 1, machine="reference") as llm:
        document = checked(trace_streams(llm, "hello world", 5, 3), tmp_path, "streams")
        assert document["what"]["streams"] == len(document["requests"]) == 3
        assert document["what"]["tokens"] == 15
        assert all(each["cached"] == 0 for each in document["requests"])


@pytest.mark.parametrize("name", ["bert-mean", "bert", "roberta-token"])
def test_texts(machine: str, name: str, tmp_path: Path) -> None:
    with Encoder(FIXTURES / name, 1, machine=machine) as encoder:  # type: ignore[arg-type]
        document = checked(trace_texts(encoder, ["a cat", "two dogs"]), tmp_path, "encoder")
        assert document["what"]["texts"] == len(document["requests"]) == 2
        assert document["what"]["prompt_tokens"] == sum(t["rows"] for t in document["ticks"])
        ran = [each for each in document["instructions"] if each["seconds"]]
        needed = encoder.program.needed_for("embedding")
        assert {each["index"] for each in ran} <= set(needed)
        assert all(
            each["operations"] == 0
            for each in document["instructions"]
            if each["index"] not in needed
        )


def test_an_adapter_is_traced_with_its_cost() -> None:
    adapters = {"one": FIXTURES / "llama-lora"}
    with LLM(FIXTURES / "llama", 1, machine="reference", adapters=adapters) as llm:
        with_it, _ = trace_answer(llm, "hello", 2, adapter="one", warm=False)
        without, _ = trace_answer(llm, "hello", 2, warm=False)

    def adapted(found: Json) -> float:
        each = json.loads(json.dumps(found))["instructions"]
        return float(sum(one["operations"] for one in each if one["opcode"] == "adapt"))

    assert adapted(with_it) > 0
    assert adapted(without) == 0


def test_without_limits_there_is_a_trace_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(threads: int) -> None:
        raise InputError("nothing can be measured here")

    monkeypatch.setattr(limits, "load_or_measure", refused)
    with LLM(FIXTURES / "llama", 1, machine="reference") as llm:
        found, _ = trace_answer(llm, "hello", 2, warm=False)
    assert found["limits"] is None
    assert found["limit_share"] is None


def test_a_prompt_that_cannot_be_leaves_nobody_watching() -> None:
    with LLM(FIXTURES / "llama", 1, machine="reference") as llm:
        with pytest.raises(InputError):
            trace_answer(llm, [1] * 500, 8, warm=False)
        assert llm.clock.roster.requests is None
        with watching(llm.clock, llm.driver) as recorder:
            llm.generate("hello", 2)
            assert isinstance(recorder, Recorder)
        assert recorder.ticks
