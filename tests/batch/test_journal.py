"""What is on disk is enough to go on, whenever the process died."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.batch.journal import Files, Journal, partial
from overclock.batch.lines import Line
from overclock.errors import InputError
from overclock.openai.errors import ApiError
from tests.batch.files import ids, read

HEADER = {"input": [3, 1, "abc"], "--model": "m"}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "in", tmp_path / "out", tmp_path / "errors")


def names(files: Files) -> list[str]:
    return sorted(path.name for path in files.output.parent.iterdir())


def test_a_batch_that_was_not_interrupted(files: Files) -> None:
    with Journal(files, HEADER) as journal:
        journal.answer(Line(1, "a"), {"text": "ü\ud800"})
        assert names(files) == ["errors.partial", "out.journal", "out.partial"]
        assert not journal.finish()
    assert names(files) == ["out"]
    [record] = read(files.output)
    assert record["custom_id"] == "a"
    assert record["response"]["status_code"] == 200
    assert record["response"]["body"] == {"text": "ü\ud800"}
    assert record["error"] is None


def test_errors_have_numbers(files: Files) -> None:
    with Journal(files, HEADER) as journal:
        journal.fail(Line(7, None), ApiError("no JSON", code="broken"))
        journal.fail(Line(9, "b"), ApiError("wrong", param="n"))
        assert journal.finish()
    assert names(files) == ["errors", "out"]
    first, second = read(files.errors)
    assert (first["line"], first["custom_id"], first["error"]["line"]) == (7, None, 7)
    assert first["error"]["message"] == "no JSON"
    assert (second["line"], second["custom_id"]) == (9, "b")
    assert second["response"]["status_code"] == 400
    assert second["response"]["body"]["error"]["param"] == "n"


def test_going_on(files: Files) -> None:
    with Journal(files, HEADER) as journal:
        journal.answer(Line(1, "a"), {})
        journal.fail(Line(2, "b"), ApiError("wrong"))
    with Journal(files, HEADER) as journal:
        assert (journal.answered, journal.failed) == ({"a"}, {2})
        journal.answer(Line(3, "c"), {})
        journal.finish()
    assert ids(files.output) == ["a", "c"]
    assert ids(files.errors) == ["b"]


@given(cut=st.integers(0, 400), tail=st.binary(max_size=20))
def test_a_torn_end_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, cut: int, tail: bytes
) -> None:
    """Whole lines stay, whatever a power cut has left behind them."""
    folder = tmp_path_factory.mktemp("torn")
    files = Files(folder / "in", folder / "out", folder / "errors")
    with Journal(files, HEADER) as journal:
        for number, id in enumerate("abc", 1):
            journal.answer(Line(number, id), {"text": id})
    path = partial(files.output)
    whole = path.read_bytes()
    kept = whole[:cut].count(b"\n")
    path.write_bytes(whole[:cut] + tail)
    with Journal(files, HEADER) as journal:
        if tail.strip():
            assert set("abc"[:kept]) <= journal.answered <= set("abc"[: kept + 1])
        else:
            assert len(journal.answered) in (kept, kept + 1)
        for id in sorted(set("abc") - journal.answered):
            journal.answer(Line(ord(id), id), {"text": id})
        journal.finish()
    assert ids(files.output) == list("abc")


@pytest.mark.parametrize("step", ["errors", "output"])
def test_died_while_the_files_got_their_names(files: Files, step: str) -> None:
    with Journal(files, HEADER) as journal:
        journal.answer(Line(1, "a"), {})
        journal.fail(Line(2, "b"), ApiError("wrong"))
    partial(files.errors).rename(files.errors)
    if step == "output":
        partial(files.output).rename(files.output)
    with Journal(files, HEADER) as journal:
        assert (journal.answered, journal.failed) == ({"a"}, {2})
        journal.finish()
    assert names(files) == ["errors", "out"]
    assert (ids(files.output), ids(files.errors)) == (["a"], ["b"])


def test_died_while_the_journal_was_begun(files: Files) -> None:
    for torn in (b"", b'{"input": [3'):
        files.journal.write_bytes(torn)
        with Journal(files, HEADER) as journal:
            assert not journal.answered
            journal.finish()
        files.output.unlink()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({**HEADER, "input": [3, 1, "abd"]}, "in has changed since"),
        ({**HEADER, "--model": "n"}, "begun with --model m, not n"),
    ],
)
def test_another_input_or_model_is_refused(
    files: Files, header: dict[str, object], words: str
) -> None:
    with Journal(files, HEADER) as journal:
        journal.answer(Line(1, "a"), {})
    before = partial(files.output).read_bytes()
    with pytest.raises(InputError, match=r"--restart") as caught:
        Journal(files, header)
    assert words in str(caught.value)
    assert partial(files.output).read_bytes() == before
    with Journal(files, header, restart=True) as journal:
        assert not journal.answered
        assert journal.finish() is False
    assert names(files) == ["out"]


@pytest.mark.parametrize("name", ["out", "errors", "out.partial", "errors.partial"])
def test_nothing_is_overwritten_unasked(files: Files, name: str) -> None:
    (files.output.parent / name).write_text("precious")
    with pytest.raises(InputError, match="is there already"):
        Journal(files, HEADER)
    assert names(files) == [name]
    assert (files.output.parent / name).read_text() == "precious"


def test_files_that_are_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for input, output, errors in (
        ("a", "a", "c"),
        ("a", "link", "c"),
        ("a", "b", "b"),
        ("b.partial", "b", "c"),
        ("b.journal", "b", "c"),
    ):
        with pytest.raises(InputError, match="three different files"):
            Journal(Files(tmp_path / input, tmp_path / output, tmp_path / errors), HEADER)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_one_at_a_time(files: Files) -> None:
    with Journal(files, HEADER):
        for restart in (False, True):
            with pytest.raises(InputError, match="another process is working on"):
                Journal(files, HEADER, restart=restart)
    with Journal(files, HEADER) as journal:
        journal.finish()
