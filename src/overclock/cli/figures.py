"""What a run took, held against what this computer can do."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from overclock.clock.completion import Completion
from overclock.engine import LLM
from overclock.errors import OverclockError
from overclock.program.program import KvFormat


def limit_share(
    llm: LLM, completion: Completion, threads: int | None, kv: KvFormat
) -> float | None:
    """The speed of generation as a part of what the memory's read bandwidth allows.

    Bytes of weights and KV that one token reads, times tokens per second, over the bandwidth
    measured with as many threads for as many bytes. Guesses that came true read nothing of their
    own, so they do not count. Measures the bandwidth if that is not known yet (0.5 s). None if
    fewer than two tokens were generated or the computer cannot be measured.
    """
    from overclock.machine import limits
    from overclock.program.cost import generation_bytes

    speed = completion.timing.generation_tokens_per_s
    if speed is None:
        return None
    usage = completion.usage
    context = usage.prompt_tokens + usage.completion_tokens // 2
    count = threads or limits.usable_cores()
    moved = generation_bytes(llm.program, context, kv)
    try:
        bandwidth = limits.load_or_measure(count, quick=True).bandwidth(moved, count)
    except (ImportError, OverclockError):
        return None
    own = 1.0 - usage.accepted_tokens / usage.completion_tokens
    return own * speed * moved / (bandwidth * 1e9)


def room(llm: LLM) -> str:
    """What was chosen for KV pages, in one line."""
    return (
        f"room for {llm.kv.tokens:,} tokens of KV ({llm.kv.bytes / 1e9:,.1f} GB when all is used)"
    )


def peak_memory() -> int:
    """Most bytes of memory that this process has held at once."""
    try:
        # Not getrusage: on Linux that remembers the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def as_record(completion: Completion, share: float | None) -> dict[str, object]:
    """A completion as `--json` prints it."""
    usage, timing = completion.usage, completion.timing
    logprobs = completion.logprobs
    return {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "drafted_tokens": usage.drafted_tokens,
            "accepted_tokens": usage.accepted_tokens,
        },
        "timing": {
            "load_s": timing.load_s,
            "first_token_s": timing.first_token_s,
            "prompt_tokens_per_s": timing.prompt_tokens_per_s,
            "generation_tokens_per_s": timing.generation_tokens_per_s,
        },
        "limit_share": share,
        **({} if logprobs is None else {"logprobs": [each._asdict() for each in logprobs]}),
    }


def line(completion: Completion, share: float | None, memory: int) -> str:
    """The one line of figures after an answer; `memory` in bytes."""
    usage, timing = completion.usage, completion.timing
    parts = []
    if timing.generation_tokens_per_s is not None:
        of = f" ({share:.0%} of this computer's limit)" if share is not None else ""
        parts.append(f"{timing.generation_tokens_per_s:,.1f} tokens/s{of}")
    if timing.first_token_s is not None:
        parts.append(
            f"first token after {timing.first_token_s:.2f} s (+ {timing.load_s:.2f} s to load)"
        )
    parts += [
        f"{usage.prompt_tokens} + {usage.completion_tokens} tokens",
        f"{memory / 1e6:,.0f} MB at most",
    ]
    return " · ".join(parts)
