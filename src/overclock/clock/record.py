"""What one tick was: what it carried, and where its time went."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TickRecord:
    """One tick. Times are in seconds of the clock's own time.

    started: when it began; fetch, decode, execute, write_back: how long each stage took
    rows: tokens that ran, of which `prompt_tokens` were of prompts and `drafts` guessed
    tokens: tokens that answers gained
    running, waiting: requests when it ended; cached_pages: pages that wait for another use
    """

    started: float
    fetch: float
    decode: float
    execute: float
    write_back: float
    rows: int
    prompt_tokens: int
    drafts: int
    tokens: int
    running: int
    waiting: int
    cached_pages: int

    @property
    def seconds(self) -> float:
        """The whole tick."""
        return self.fetch + self.decode + self.execute + self.write_back
