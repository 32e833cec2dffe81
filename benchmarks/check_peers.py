"""See that every engine computes the same thing, before its speed is believed.

    python benchmarks/check_peers.py --model … --encoder … --prepared … --python peers=PATH

Prints what each decoder answers to one prompt, greedily, alone and in three streams, and the cosine
of each encoder's vector to the first encoder's. The prompt is given as ids of SmolLM2's chat
format: "What is the capital of France?". Int8 activations shift logits by a tenth, so a near tie
may fall the other way.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import engines
from common import table
from engines import Engine, EngineError, Places, Worker

PROMPT = [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]
"""<|im_start|>user … <|im_end|> <|im_start|>assistant; the answer is 504 3575 282 4649 314 7042."""

SENTENCE = [101, 2054, 2003, 1996, 3007, 1997, 2605, 1029, 102]
"""[CLS] what is the capital of france ? [SEP] in BERT's vocabulary."""


def ask(places: Places, engine: Engine, **request: object) -> dict[str, object]:
    """One request to a fresh worker; {"error": …} if it cannot answer."""
    if not places.installed(engine):
        return {"error": "not installed"}
    try:
        with Worker(places.command(engine, 640)) as worker:
            return worker.ask(**request)
    except EngineError as error:
        return {"error": str(error)}


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two vectors of one length."""
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """Sum of products."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def main() -> None:
    """Ask everyone and print the answers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engines.add_options(parser)
    places = Places.of(parser.parse_args())
    answers = []
    for engine in dict.fromkeys((*engines.DECODERS, *engines.KV8, *engines.STREAMS)):
        answer = ask(places, engine, task="greedy", ids=PROMPT, tokens=7)
        answers.append((engine.name, answer.get("ids", answer.get("error"))))
    print(table(("decoder", "ids"), answers), "\n")
    answers = []
    for engine in engines.STREAMS:
        answer = ask(places, engine, task="streams", prompts=[PROMPT] * 3, tokens=7)
        found = answer.get("ids", answer.get("error"))
        if isinstance(found, list) and found[1:] == found[:-1]:
            found = found[0]
        answers.append((engine.name, found))
    print(table(("decoder, three streams", "ids; of each where they differ"), answers), "\n")
    vectors: dict[str, list[float]] = {}
    for engine in engines.ENCODERS:
        answer = ask(places, engine, task="embed", sentences=[SENTENCE], calls=1)
        if isinstance(found := answer.get("first"), list):
            vectors[engine.name] = found
        else:
            print(f"{engine.name}: {answer.get('error')}")
    reference = next(iter(vectors.values()), [])
    rows = [(name, f"{cosine(vector, reference):.6f}") for name, vector in vectors.items()]
    print(table(("encoder", "cosine to the first"), rows))


if __name__ == "__main__":
    main()
