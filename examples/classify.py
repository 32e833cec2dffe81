"""Sort texts into classes that nobody trained: by which description their meaning is nearest to.

    python examples/classify.py "The battery died after two days." "What a lovely film!"

A checkpoint with a head of its own (sequence or token classification, masked words) needs no
descriptions: `Encoder(path).classify(texts)`.
"""

from __future__ import annotations

import sys

from overclock import Encoder

CLASSES = {
    "praise": "I love it, it is wonderful.",
    "complaint": "I am disappointed, it is bad and does not work.",
    "question": "Can you tell me how this works?",
}


def main() -> None:
    """Print the class of each text of the command line."""
    texts = sys.argv[1:] or ["The battery died after two days.", "What a lovely film!"]
    with Encoder("minilm") as encoder:
        likeness = encoder.embed(texts) @ encoder.embed(list(CLASSES.values())).T
    for text, row in zip(texts, likeness, strict=True):
        print(f"{list(CLASSES)[row.argmax()]:10}  {row.max():.2f}  {text}")


if __name__ == "__main__":
    main()
