"""Files mapped into memory, read only."""

from __future__ import annotations

import mmap
from pathlib import Path

from overclock.errors import ModelError


def map_file(path: Path) -> mmap.mmap:
    """The bytes of `path`; arrays made over them keep the mapping alive.

    Raises ModelError if the file cannot be opened or is empty.
    """
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"{path} is empty; download it again") from error
