"""How many KV pages to make room for."""

from __future__ import annotations

from dataclasses import dataclass

from overclock.errors import InputError
from overclock.machine import computer
from overclock.program.cost import kv_token_bytes
from overclock.program.program import PAGE_TOKENS, KvFormat, Program

SHARE = 0.25
"""Of the memory that this process could still take, unless it is told how much."""


@dataclass(frozen=True, slots=True)
class KvPlan:
    """Room for KV: so many pages of so many bytes. The memory is taken as it is used."""

    pages: int
    page_bytes: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.pages * self.page_bytes

    @property
    def tokens(self) -> int:
        """Tokens that fit."""
        return self.pages * PAGE_TOKENS


def plan_kv(
    program: Program, kv: KvFormat, context: int, streams: int, budget: int | None
) -> KvPlan:
    """Room for `streams` full contexts, or less if memory is short; one context at least.

    budget: bytes for KV pages; None for a quarter of what the container has left. Raises InputError
    if a budget does not hold one context.
    """
    page_bytes = PAGE_TOKENS * sum(kv_token_bytes(cache, kv) for cache in program.caches)
    each = -(-context // PAGE_TOKENS)
    if budget is None:
        room = int(SHARE * computer.memory().available) // page_bytes
        return KvPlan(max(each, min(room, each * streams)), page_bytes)
    if type(budget) is not int or budget < each * page_bytes:
        raise InputError(
            f"kv_memory is {budget!r}; a context of {context} tokens takes "
            f"{each * page_bytes} bytes: give it as much, or take a smaller context"
        )
    return KvPlan(budget // page_bytes, page_bytes)
