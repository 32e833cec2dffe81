"""Make minilm.npz: what transformers gives for MiniLM (needs torch and transformers).

usage: python make_minilm_vectors.py DIRECTORY_OF_MINILM
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = [
    "A man is eating food.",
    "a",
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "def area(radius: float) -> float:\n    return 3.14159 * radius**2",
    "Ein schneller brauner Fuchs – 狐狸 跳过 🦊 naïve café",
    "How many tokens are too many tokens? " * 40,
]
LIMIT = 256
"""Tokens of a text that sentence-transformers takes with this model."""


def main() -> None:
    """Write the mean of each text's tokens, scaled to length 1, ``f32[texts, 384]``."""
    folder = sys.argv[1]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval().double()
    rows = []
    for text in TEXTS:
        inputs = tokenizer(text, truncation=True, max_length=LIMIT, return_tensors="pt")
        with torch.no_grad():
            row = model(**inputs).last_hidden_state[0].mean(dim=0)
        rows.append((row / row.norm()).numpy().astype(np.float32))
    target = Path(__file__).with_name("minilm.npz")
    np.savez_compressed(target, texts=np.array(TEXTS), vectors=np.array(rows))


if __name__ == "__main__":
    main()
