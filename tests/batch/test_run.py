"""A batch answers every line once, and what it answers is what the models say."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overclock import LLM, Encoder, OverclockError
from overclock.batch.journal import Files, partial
from overclock.batch.run import Models, Tally, run_batch, throughput
from overclock.errors import InputError, SourceError
from tests.batch.files import CHAT, EMBED, TEXT, ids, line, read, write
from tests.checkpoints import FIXTURES

STREAMS = 3


def llm() -> LLM:
    return LLM(FIXTURES / "llama", machine="reference", settings=throughput(STREAMS))


def encoder() -> Encoder:
    return Encoder(FIXTURES / "bert-mean", machine="reference")


def never() -> Any:
    raise AssertionError("this model is not needed")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "in", tmp_path / "out", tmp_path / "errors")


def run(files: Files, **options: Any) -> Tally:
    models = Models(options.pop("llm", llm), options.pop("encoder", encoder))
    return run_batch(files, models, options.pop("settings", {}), **options)


def bodies(files: Files) -> dict[str, Any]:
    return {each["custom_id"]: each["response"]["body"] for each in read(files.output)}


def test_answers_are_those_of_the_models(files: Files) -> None:
    prompts = [f"prompt {number}" for number in range(20)]
    lines = [
        *(line(f"t{number}", TEXT, prompt=prompt) for number, prompt in enumerate(prompts)),
        *(line(f"e{number}", EMBED, input=prompt) for number, prompt in enumerate(prompts)),
        line("chat", CHAT, max_tokens=6),
        line("many", TEXT, prompt=prompts[:8], n=2),
        line("packed", EMBED, input=prompts, encoding_format="base64"),
    ]
    write(files.input, lines)
    tally = run(files)
    assert (tally.lines, tally.answered, tally.failed, tally.resumed) == (43, 43, 0, 0)
    assert sorted(ids(files.output)) == sorted(str(each["custom_id"]) for each in lines)
    found = bodies(files)
    with llm() as alone:
        texts = [each.text for each in alone.generate(prompts, 4)]
        chat = alone.generate([{"role": "user", "content": "hi"}], 6).text
    with encoder() as alone:
        vectors = alone.embed(prompts)
    assert [found[f"t{number}"]["choices"][0]["text"] for number in range(20)] == texts
    assert [each["text"] for each in found["many"]["choices"]] == [
        text for text in texts[:8] for _ in range(2)
    ]
    assert found["chat"]["choices"][0]["message"]["content"] == chat
    rows = [found[f"e{number}"]["data"][0]["embedding"] for number in range(20)]
    assert np.allclose(rows, vectors, atol=1e-6)
    packed = [
        np.frombuffer(base64.b64decode(each["embedding"]), "<f4")
        for each in found["packed"]["data"]
    ]
    assert np.allclose(packed, vectors, atol=1e-6)
    assert tally.completion_tokens == sum(
        body["usage"].get("completion_tokens", 0) for body in found.values()
    )
    assert tally.prompt_tokens == sum(body["usage"]["prompt_tokens"] for body in found.values())


def test_broken_lines_go_to_the_errors_and_the_rest_is_done(files: Files) -> None:
    lines = [
        line("good"),
        "nonsense",
        line("url", TEXT) | {"url": "/v1/poems"},
        "",
        line("good", TEXT),
        line("field", CHAT, tempreature=1),
        line("stream", CHAT, stream=True),
        line("long", TEXT, prompt="x" * 500),
        line("half", TEXT, prompt=["fine", "x" * 500]),
        line("schema", CHAT, response_format={"type": "regex", "pattern": "("}),
        line("wide", EMBED, dimensions=1000),
        line("list", EMBED) | {"body": []},
        line("last", EMBED),
    ]
    write(files.input, lines)
    tally = run(files)
    assert (tally.lines, tally.answered, tally.failed) == (12, 2, 10)
    assert sorted(ids(files.output)) == ["good", "last"]
    told = {each["line"]: each["custom_id"] for each in read(files.errors)}
    assert told == {
        2: None,
        3: "url",
        5: "good",
        6: "field",
        7: "stream",
        8: "long",
        9: "half",
        10: "schema",
        11: "wide",
        12: "list",
    }
    for each in read(files.errors):
        assert each["error"]["line"] == each["line"]
        assert each["error"]["message"]
        assert each["response"]["status_code"] in (400, 404)


def test_models_are_opened_when_they_are_needed(files: Files) -> None:
    write(files.input, [line("a", EMBED)])
    assert run(files, llm=never).answered == 1
    files.output.unlink()
    write(files.input, [line("a", TEXT)])
    assert run(files, encoder=never).answered == 1
    files.output.unlink()
    write(files.input, [])
    assert run(files, llm=never, encoder=never).lines == 0
    assert files.output.read_bytes() == b""


class Stopped(BaseException):
    """Nothing expects it, as a kill."""


def stop_after(count: int) -> Callable[[Tally], None]:
    def progress(tally: Tally) -> None:
        if tally.done - tally.resumed >= count:
            raise Stopped

    return progress


@pytest.mark.parametrize("count", [1, 2, 7])
def test_stopped_again_and_again_it_answers_every_line_once(files: Files, count: int) -> None:
    lines: list[object] = [line(f"{n}", (TEXT, EMBED, CHAT)[n % 3]) for n in range(20)]
    lines[4:4] = ["nonsense"]
    lines[9:9] = [line("3")]
    write(files.input, lines)
    stops = 0
    while True:
        try:
            tally = run(files, progress=stop_after(count))
            break
        except Stopped:
            stops += 1
            assert not files.output.exists()
    assert stops >= 20 // count - 1
    assert (tally.answered, tally.failed) == (20, 2)
    assert sorted(ids(files.output), key=int) == [f"{n}" for n in range(20)]
    assert [each["line"] for each in read(files.errors)] == [5, 10]


def test_a_model_that_cannot_be_opened_leaves_the_batch_as_it_is(files: Files) -> None:
    write(files.input, ["nonsense", line("a")])

    def missing() -> LLM:
        raise SourceError("there is no such model")

    with pytest.raises(SourceError):
        run(files, llm=missing)
    assert not files.output.exists()
    assert run(files).answered == 1
    assert [each["line"] for each in read(files.errors)] == [2 - 1]


def test_an_engine_that_breaks_fails_no_line(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was on its way has no answer and no error: the next process asks it again."""
    write(files.input, [line(f"{n}") for n in range(30)])

    def breaking() -> LLM:
        made = llm()
        tick, left = made.clock.tick, iter(range(8))

        def broken() -> Any:
            if next(left, None) is None:
                raise ZeroDivisionError("a bug")
            return tick()

        monkeypatch.setattr(made.clock, "tick", broken)
        return made

    with pytest.raises(OverclockError, match="stopped: ZeroDivisionError"):
        run(files, llm=breaking)
    assert partial(files.errors).read_bytes() == b""
    before = len(read(partial(files.output)))
    tally = run(files)
    assert (tally.answered, tally.failed, tally.resumed) == (30, 0, before)
    assert sorted(ids(files.output), key=int) == [f"{n}" for n in range(30)]


def test_few_requests_are_on_their_way(files: Files) -> None:
    """Lines are read as there is room, not all at once."""
    write(files.input, [line(f"{n}", TEXT, n=2) for n in range(60)])
    seen = []
    made = llm()

    def watch(tally: Tally) -> None:
        seen.append(made.clock.waiting + made.clock.roster.running)

    assert run(files, llm=lambda: made, progress=watch).answered == 60
    assert max(seen) <= 2 * STREAMS + 8


def test_the_input_must_be_the_same(files: Files) -> None:
    write(files.input, [line("a"), line("b")])
    with pytest.raises(Stopped):
        run(files, progress=stop_after(1))
    write(files.input, [line("a"), line("c")])
    with pytest.raises(InputError, match="has changed since"):
        run(files)
    assert run(files, restart=True).answered == 2
    assert sorted(ids(files.output)) == ["a", "c"]


@pytest.fixture(autouse=True)
def nothing_is_left(files: Files) -> Iterator[None]:
    yield
    left = {path.name for path in files.output.parent.iterdir()}
    assert left <= {"in", "out", "errors"}
