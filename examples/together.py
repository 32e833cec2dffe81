"""Write several answers at the same time, each for as long as its reader has patience.

python examples/together.py "the sea" "the desert" "the moon" --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio

from overclock import Completion
from overclock.async_engine import AsyncLLM


async def write(llm: AsyncLLM, subject: str, seconds: float) -> Completion:
    """A poem, as far as it comes in time; a dot for every piece."""
    ask = [{"role": "user", "content": f"Write a short poem about {subject}."}]
    reply = llm.submit(ask, 120, temperature=0.8, seed=1, deadline_s=seconds)
    async for piece in reply:
        print("." if piece.completion is None else f"[{subject}]", end="", flush=True)
    return await reply.result()


async def tell(subjects: list[str], seconds: float) -> None:
    """Run all poems together, then print them."""
    async with AsyncLLM("smollm2") as llm:
        poems = await asyncio.gather(*(write(llm, subject, seconds) for subject in subjects))
    print()
    for subject, poem in zip(subjects, poems, strict=True):
        print(f"\n── {subject} ({poem.finish_reason}, {poem.usage.completion_tokens} tokens)")
        print(poem.text)


def main() -> None:
    """Write about the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", default=["the sea", "the desert", "the moon"])
    parser.add_argument("--seconds", type=float, default=30.0)
    words = parser.parse_args()
    asyncio.run(tell(words.subjects, words.seconds))


if __name__ == "__main__":
    main()
