"""The model's own answer to a prompt, token by token."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from overclock.explain.occlusion import Progress
from overclock.explain.running import Running


def greedy(
    running: Running, prompt: Sequence[int], ends: Collection[int], most: int, progress: Progress
) -> list[int]:
    """The likeliest continuation, at most `most` tokens, up to the first of `ends`."""
    ids = list(prompt)
    done = 0
    while len(ids) < len(prompt) + most:
        batch = running.sequence(ids, [len(ids) - done - 1], "logits", done)
        [logits] = running.machine.run(batch)
        done = len(ids)
        token = int(logits.argmax())
        if token in ends:
            break
        ids.append(token)
        progress(len(ids) - len(prompt), most)
    return ids[len(prompt) :]
