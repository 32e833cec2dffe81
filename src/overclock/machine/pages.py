"""What may be done with whole KV pages: the same rules, and the same words, for every machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import NDArray

from overclock.errors import MachineError
from overclock.program.program import Program

PageNumbers = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class PageRules:
    """A machine has `pages` KV pages, of `page_bytes` bytes each over all layers."""

    pages: int = 0
    page_bytes: int = 0

    @classmethod
    def of(cls, program: Program, pages: int, page_bytes: int) -> PageRules:
        """The rules of a machine that was loaded with room for `pages`; an encoder has none."""
        return cls(pages if program.caches else 0, page_bytes)

    def numbers(self, pages: PageNumbers) -> NDArray[np.int32]:
        """Page numbers as ``int32[n]``; raises MachineError for one that there is not."""
        try:
            numbers = [index(page) for page in pages]
        except TypeError as error:
            raise MachineError(f"KV pages are named by integers, not by {pages!r}") from error
        for number in numbers:
            if not 0 <= number < self.pages:
                raise MachineError(f"KV page {number} is not one of the machine's {self.pages}")
        return np.array(numbers, np.int32)

    def pairs(self, sources: PageNumbers, targets: PageNumbers) -> Iterator[tuple[int, int]]:
        """Each source with its target; raises MachineError if there are not as many of both."""
        if len(sources) != len(targets):
            raise MachineError(
                f"{len(sources)} KV pages cannot be copied to {len(targets)}; name as many targets "
                "as sources"
            )
        both = self.numbers(sources).tolist(), self.numbers(targets).tolist()
        return zip(*both, strict=True)

    def check_data(self, count: int, data: NDArray[np.uint8]) -> None:
        """Raises MachineError unless `data` is ``u8[count, page_bytes]``."""
        wanted = (count, self.page_bytes)
        if data.dtype != np.uint8 or data.shape != wanted:
            raise MachineError(
                f"the bytes of {count} KV pages are {data.dtype}{list(data.shape)}, but must be "
                f"uint8{list(wanted)}; they come from a machine with other pages"
            )
