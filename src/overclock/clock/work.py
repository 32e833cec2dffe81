"""What one tick does: a batch for the machine, and whose rows are whose."""

from __future__ import annotations

from dataclasses import dataclass, field

from overclock.clock.sequence import Sequence
from overclock.machine.machine import Batch


@dataclass(slots=True)
class Part:
    """Several tokens of one request: of its prompt, or the last token with guesses behind it.

    first: the first of its rows in the output; outputs: how many it has there
    drafts: guesses, the last rows of the part
    """

    sequence: Sequence
    count: int
    outputs: int = 0
    first: int = 0
    drafts: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Work:
    """One run of the machine.

    plain: requests that bring one token each; they come first, with the outputs 0, 1, 2 …
    parts: the others, in the order of their rows
    """

    batch: Batch
    plain: list[Sequence]
    parts: list[Part]

    def spans(self) -> list[tuple[Sequence, int, int]]:
        """Each request, in the batch's order: the first of its output rows, and how many."""
        plain = [(sequence, row, 1) for row, sequence in enumerate(self.plain)]
        return plain + [(part.sequence, part.first, part.outputs) for part in self.parts]

    @property
    def prompt_tokens(self) -> int:
        """Tokens that belong to prompts."""
        return sum(part.count for part in self.parts if not part.drafts)

    @property
    def drafts(self) -> int:
        """Tokens that are guesses."""
        return sum(len(part.drafts) for part in self.parts)
