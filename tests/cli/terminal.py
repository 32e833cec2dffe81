"""Our side of a pseudo-terminal."""

from __future__ import annotations

import os
import select
import time


class Terminal:
    """Reads what a command shows, and types."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._seen = b""

    def wait_for(self, text: bytes, seconds: float = 60) -> None:
        """Read on until `text` has come; what came after it is for the next call."""
        end = time.monotonic() + seconds
        while text not in self._seen and time.monotonic() < end:
            if select.select([self._file], [], [], 0.1)[0]:
                self._seen += os.read(self._file, 4096)
        assert text in self._seen, self._seen
        self._seen = self._seen.split(text, 1)[1]

    def type(self, text: bytes) -> None:
        """Type `text`."""
        os.write(self._file, text)
