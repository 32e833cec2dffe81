"""What the environment sets."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "OVERCLOCK_CACHE"


def cache_directory() -> Path:
    """Where fetched models and measured limits are kept; it need not be there yet.

    `$OVERCLOCK_CACHE`, or `overclock` in the user's cache folder (XDG Base Directory
    Specification: `$XDG_CACHE_HOME`, else `~/.cache`; a relative path there is ignored).
    """
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "overclock"
