"""Which file of a folder full of files is the model."""

from __future__ import annotations

from pathlib import Path

from overclock.errors import SourceError
from overclock.model.checkpoint import CONFIG, has_weights


def find_model(folder: Path, source: str, file: str | None = None) -> Path:
    """The GGUF file or the checkpoint's directory in `folder`; `file` says which, if given.

    Raises SourceError if there is none, or several and `file` does not choose.
    """
    if file is not None:
        return _named(folder, source, file)
    found = sorted(folder.rglob("*.gguf"))
    found += sorted({path.parent for path in folder.rglob(CONFIG) if has_weights(path.parent)})
    if not found:
        raise SourceError(
            f"{source} holds no GGUF file and no folder with config.json and safetensors: "
            "it is not a model that can be run"
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise SourceError(f"{source} holds several models; add a colon and one of {names}")
    return found[0]


def _named(folder: Path, source: str, file: str) -> Path:
    path = folder / file
    if ".." in Path(file).parts or Path(file).is_absolute() or not path.exists():
        raise SourceError(f"{source} holds no {file}; leave it out to see what is there")
    return path
