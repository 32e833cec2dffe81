"""Where models can be fetched from, and who is told how that goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how many bytes of it are done, and of how many, if that is known."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A requirement on one version of a package, and the file inside, if there are several."""

    package: str
    version: str
    sha256: str | None = None
    file: str | None = None

    @property
    def requirement(self) -> str:
        """As pip writes it."""
        return f"{self.package}=={self.version}"

    def __str__(self) -> str:
        file = f":{self.file}" if self.file else ""
        pin = f"#sha256={self.sha256}" if self.sha256 else ""
        return f"pypi:{self.requirement}{file}{pin}"


@dataclass(frozen=True, slots=True)
class Repository:
    """A model repository, at a revision (a branch, tag or commit), and a file in it."""

    name: str  # owner/name
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        file = f":{self.file}" if self.file else ""
        return f"hf:{self.name}{revision}{file}"
