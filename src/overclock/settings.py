"""What the environment sets."""

from __future__ import annotations

import os
from pathlib import Path

from overclock.errors import InputError

CACHE_VARIABLE = "OVERCLOCK_CACHE"
LIVE_VARIABLE = "OVERCLOCK_LIVE"


def cache_directory() -> Path:
    """Where fetched models and measured limits are kept; it need not be there yet.

    `$OVERCLOCK_CACHE`, or `overclock` in the user's cache folder (XDG Base Directory
    Specification: `$XDG_CACHE_HOME`, else `~/.cache`; a relative path there is ignored).
    """
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "overclock"


def live() -> bool | None:
    """Whether engines show themselves to `overclock top`: `$OVERCLOCK_LIVE`, None if it is not set.

    Raises InputError for anything but 1 and 0.
    """
    value = os.environ.get(LIVE_VARIABLE, "")
    if value not in ("", "0", "1"):
        raise InputError(f"{LIVE_VARIABLE} is {value!r}; set it to 1 or 0, or not at all")
    return value == "1" if value else None
