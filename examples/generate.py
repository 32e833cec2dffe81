"""Ask a question and see what the answer took.

python examples/generate.py "Why is the sky blue?"
"""

from __future__ import annotations

import sys

from overclock import LLM


def main() -> None:
    """Answer the words of the command line."""
    question = " ".join(sys.argv[1:]) or "Why is the sky blue?"
    with LLM("smollm2") as llm:
        answer = llm.generate([{"role": "user", "content": question}], max_tokens=100)
    print(answer.text)
    print(f"{answer.usage.completion_tokens} tokens, ended by {answer.finish_reason}")
    print(f"the first one after {answer.timing.first_token_s:.3f} s")


if __name__ == "__main__":
    main()
