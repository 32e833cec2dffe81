"""Print an answer while it is written. The same seed gives the same story.

python examples/stream.py "a lighthouse" --seed 7
"""

from __future__ import annotations

import argparse

from overclock import LLM


def main() -> None:
    """Tell a story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", nargs="?", default="a lighthouse")
    parser.add_argument("--seed", type=int, default=7)
    words = parser.parse_args()
    prompt = [{"role": "user", "content": f"Tell a short story about {words.subject}."}]
    with LLM("smollm2") as llm:
        pieces = llm.generate(
            prompt, max_tokens=200, temperature=0.8, top_p=0.95, seed=words.seed, stream=True
        )
        for piece in pieces:
            print(piece.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
