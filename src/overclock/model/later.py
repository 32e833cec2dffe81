"""Values that are made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """A value that `make` makes at the first `get`; then `make`, and what it holds, is let go.

    Threads may share it. If `make` raises, so does every `get`.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._lock = Lock()

    def get(self) -> T:
        """The value. Raises what `make` raises."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
                del self._make
        return self._made[0]
