"""Where the time of an answer goes, and what would help.

python examples/account.py [MODEL]
"""

from __future__ import annotations

import sys

from overclock import LLM
from overclock.trace import report
from overclock.tracing import trace_answer


def main() -> None:
    """Trace one answer and print what took longest."""
    name = sys.argv[1] if len(sys.argv) > 1 else "smollm2"
    with LLM(name) as llm:
        document, _ = trace_answer(llm, [{"role": "user", "content": "Why is the sky blue?"}], 48)
    print(report.headline(document))
    for line in (*report.why(document), *report.notes(document)):
        print(line)
    for row in report.opcodes(document).rows:
        print("  ".join(row))


if __name__ == "__main__":
    main()
