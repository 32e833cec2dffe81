"""An engine that runs for long does not grow."""

from __future__ import annotations

import gc
import random
from pathlib import Path

import pytest

from overclock import LLM
from tests.checkpoints import FIXTURES

WAVE = 500
MOST_GROWTH = 4 << 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_ten_thousand_requests_leave_nothing_behind() -> None:
    chance = random.Random(5)
    sizes: list[int] = []
    with LLM(FIXTURES / "llama", kv_memory=1 << 20) as llm:
        for _ in range(20):
            prompts = [[chance.randrange(288) for _ in range(chance.randrange(1, 60))]] * 3 + [
                [chance.randrange(288) for _ in range(chance.randrange(1, 90))]
                for _ in range(WAVE - 3)
            ]
            completions = llm.generate(prompts, 3, temperature=1.0, salt=str(chance.random()))
            assert len(completions) == WAVE
            del completions
            gc.collect()
            sizes.append(_resident())
        llm.clock.check_integrity()
        assert llm.clock.pages.available == llm.clock.pages.count
    # The first waves fill the KV pages and the allocator's own stores.
    assert sizes[-1] - sizes[5] < MOST_GROWTH


def _resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
