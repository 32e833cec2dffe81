"""Find the lines of a file that mean what a question asks, by embeddings.

python examples/search.py README.md "How do I run the tests?"
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from overclock import Encoder

BEST = 3


def main() -> None:
    """Print the lines nearest to the question, best first."""
    if len(sys.argv) != 3:
        sys.exit('usage: search.py FILE "QUESTION"')
    lines = [line for line in Path(sys.argv[1]).read_text().splitlines() if line.strip()]
    with Encoder("minilm", weights="int8") as encoder:
        known = encoder.embed(lines)  # f32[lines, width], each of length 1
        question = encoder.embed(sys.argv[2])[0]
    likeness = known @ question
    for index in np.argsort(-likeness)[:BEST]:
        print(f"{likeness[index]:.3f}  {lines[index]}")


if __name__ == "__main__":
    main()
