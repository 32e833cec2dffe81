"""What is open until it is closed."""

from __future__ import annotations

from typing import Self


class Closing:
    """Closed at the end of a `with`."""

    def close(self) -> None:
        """Give back what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
