"""Models on the Hugging Face hub, or a server that speaks its protocol, by `huggingface_hub`.

Its own settings hold: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE. Files live in its cache, so
that other programs share them; our cache keeps only where they are.
"""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from overclock.errors import SourceError
from overclock.model import cache
from overclock.model.cache import Record
from overclock.model.download import check_sha256
from overclock.model.locate import find_model
from overclock.model.origin import Progress, Repository

if TYPE_CHECKING:
    from huggingface_hub.utils.tqdm import tqdm

_CHECKPOINT: Final = re.compile(
    r"(?:[\w.-]+\.json|[\w.-]+\.safetensors|[\w.-]+\.jinja|\d+_\w+/config\.json)"
)
"""What of a checkpoint's repository is wanted: no other framework's weights, no pictures."""


def pull(repository: Repository, progress: Progress, *, update: bool = False) -> Record:
    """The record of the model in `repository`, fetched if it is not here.

    `update`: ask the hub whether there is a newer one. Raises SourceError if there is no such
    repository or file, it cannot be reached, or what came is not what was announced.
    """
    source = str(repository)
    found = None if update else cache.find(source)
    if found is not None:
        return found
    with cache.locked(source, progress), cache.staging(source) as folder:
        with _sentences(source):
            path = _fetch(repository, progress)
        with cache.disk_errors(source):
            return cache.publish(folder, source, path, cache.size_of(path), None)


def _fetch(repository: Repository, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download

    progress(f"asking for {repository}", 0, None)
    wanted = _wanted(repository)
    snapshot = Path(
        snapshot_download(
            repository.name,
            revision=repository.revision,
            allow_patterns=None if wanted is None else [glob.escape(name) for name in wanted],
            local_files_only=wanted is None,
            tqdm_class=_bar(progress, str(repository)),
        )
    )
    for name in wanted or ():
        _verify(snapshot / name, f"{name} of {repository}")
    return find_model(snapshot, str(repository), repository.file)


def _wanted(repository: Repository) -> list[str] | None:
    """The files to fetch; None when the hub must not be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = HfApi().model_info(repository.name, revision=repository.revision)
    except OfflineModeIsEnabled:
        return None
    return choose([file.rfilename for file in info.siblings or ()], repository)


def choose(names: Sequence[str], repository: Repository) -> list[str]:
    """Which of the repository's files make up the model.

    Raises SourceError if none do, or it takes the user to choose.
    """
    if repository.file is not None:
        if repository.file not in names:
            raise SourceError(f"{repository.name} has no file {repository.file}; {_offer(names)}")
        return [repository.file]
    if "config.json" in names and any(re.fullmatch(r"[\w.-]+\.safetensors", n) for n in names):
        return [name for name in names if _CHECKPOINT.fullmatch(name)]
    ggufs = [name for name in names if name.endswith(".gguf")]
    if len(ggufs) == 1:
        return ggufs
    raise SourceError(f"hf:{repository.name} does not say which file to run; {_offer(names)}")


def _offer(names: Sequence[str]) -> str:
    ggufs = [name for name in names if name.endswith(".gguf")]
    if not ggufs:
        return "it holds no GGUF file and no config.json with safetensors"
    return f"add a colon and one of {', '.join(ggufs)}"


def _verify(path: Path, what: str) -> None:
    """Check a large file, which the hub's cache names by its SHA-256."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        check_sha256(blob, blob.name, what)


def _bar(progress: Progress, what: str) -> type[tqdm]:
    """A progress bar that shows nothing and tells `progress` instead.

    The client has several of them: for bytes received, bytes written, files.
    """
    from huggingface_hub.utils.tqdm import tqdm

    most = [0, 0]

    class Bar(tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            make: Callable[..., None] = super().__init__
            make(*args, **(options | {"disable": False, "file": io.StringIO()}))

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            if self.unit == "B":
                most[:] = max(most[0], int(self.n)), max(most[1], int(self.total or 0))
                progress(what, most[0], most[1] or None)
            return True

    return Bar


@contextmanager
def _sentences(source: str) -> Iterator[None]:
    """Turn what the client library raises into a sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalEntryNotFoundError as error:
        raise SourceError(
            f"{source} is not in the cache and cannot be fetched: {_reason(error)}; "
            "check the network and HF_HUB_OFFLINE"
        ) from error
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{source} is only given to those who accepted its terms: do so on the hub's page and "
            "set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"the hub has no {source}, or only for those with access: check the spelling, or set "
            "HF_TOKEN"
        ) from error
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        raise SourceError(f"{source} is not on the hub; check the file and revision") from error
    except _network_errors() as error:
        _refuse(source, error)


def _network_errors() -> tuple[type[Exception], ...]:
    """What a transfer may raise. The HTTP library differs between versions of the client."""
    from huggingface_hub.errors import HfHubHTTPError

    bases: tuple[type, ...] = HfHubHTTPError.__bases__
    own = tuple(base for base in bases if issubclass(base, Exception))
    return (*own, OSError, ValueError)


def _refuse(source: str, error: Exception) -> None:
    if isinstance(error, OSError) and error.errno is not None:
        with cache.disk_errors(source):
            raise error
    raise SourceError(f"{source} cannot be fetched: {_reason(error)}; check the network") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
