"""Traces that nobody measured: their times are known, and so is what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Document = dict[str, Any]
Noise = Callable[[int, int], NDArray[np.float64]]
"""Factors ``f64[ticks, instructions]``."""

LAYERS = 3
OPCODES = ("rmsnorm", "matmul", "attend", "matmul", "gated_matmul")
TIMES = (4_000.0, 60_000.0, 20_000.0, 30_000.0, 90_000.0)


def gaussian(seed: int, spread: float = 0.03) -> Noise:
    chance = np.random.default_rng(seed)
    return lambda ticks, count: np.exp(chance.normal(0, spread, (ticks, count)))


def instruction(index: int, opcode: str, layer: int) -> Document:
    return {
        "index": index,
        "opcode": opcode,
        "layer": layer,
        "text": f"{opcode} {index % 5}",
        "runs": 1,
        "seconds": 0.1,
        "busy_s": None,
        "operations": 1000,
        "weight_bytes": 100,
        "activation_bytes": 10,
        "kv_bytes": 500 if opcode == "attend" else 0,
        "attainable_s": None,
        "share": None,
        "bound": None,
        "reason": None,
    }


def tick(ns: list[int], rows: int, prompt: int, context: int) -> Document:
    return {
        "start": 1.0,
        "fetch": 1e-6,
        "decode": 2e-6,
        "execute": 1e-9 * sum(ns),
        "write_back": 5e-6,
        "choose": 1e-6,
        "text": 1e-6,
        "prepare": 0.0,
        "turn": 0.0,
        "finish": 0.0,
        "rows": rows,
        "prompt_tokens": prompt,
        "drafts": 0,
        "tokens": 1,
        "running": 1,
        "waiting": 0,
        "cached_pages": 0,
        "used_pages": 1,
        "memory": 1 << 20,
        "lengths": [rows],
        "contexts": [context],
        "ns": ns,
        "busy_ns": [7] * len(ns),
    }


def ticks(
    noise: Noise,
    factors: dict[int, float] | None = None,
    *,
    count: int = 64,
    rows: int = 1,
    prompt: int = 0,
    context: int = 100,
    growth: float = 0.0,
) -> list[Document]:
    """`factors` multiply the times of instructions; `growth`: of attention, with each token."""
    times = np.tile(np.array(TIMES * LAYERS), (count, 1))
    for place, factor in (factors or {}).items():
        times[:, place] *= factor
    contexts = context + np.arange(count)
    is_attend = [OPCODES[place % 5] == "attend" for place in range(times.shape[1])]
    times[:, is_attend] *= 1 + growth * contexts[:, None]
    times *= noise(*times.shape)
    found = zip(times.round().astype(int).tolist(), contexts.tolist(), strict=True)
    return [tick(ns, rows, prompt, at) for ns, at in found]


def document(these: list[Document], **changes: object) -> Document:
    found: Document = {
        "format": "overclock-trace",
        "version": 1,
        "created": "2025-01-01T00:00:00+00:00",
        "overclock": "0.1",
        "kind": "run",
        "what": {},
        "load": None,
        "requests": [request()],
        "model": {
            "name": "tiny",
            "exact": False,
            "context": 256,
            "vocabulary": 100,
            "layers": LAYERS,
            "weight_bytes": 1000,
            "fingerprint": "aa",
        },
        "machine": {
            "name": "native",
            "tier": "avx2",
            "threads": 2,
            "kv": "f16",
            "cpu": "x",
            "cores": 2,
        },
        "limits": {
            "threads": 2,
            "read_gbs": 10.0,
            "f32_gflops": 100.0,
            "int8_gops": None,
            "levels": [{"name": "L2", "bytes": 1 << 20, "gbs": 50.0}],
            "measured": "monday",
        },
        "wall_s": 1.0,
        "accounted_s": 0.99,
        "accounted_share": 0.99,
        "wait_s": 0.0,
        "limit_share": None,
        "tree": {
            "name": "all",
            "seconds": 1.0,
            "children": [{"name": "tick", "seconds": 0.9, "children": []}],
        },
        "instructions": [
            instruction(place, OPCODES[place % 5], place // 5) for place in range(5 * LAYERS)
        ],
        "ticks": these,
    }
    return found | changes


def request() -> Document:
    return {
        "arrived": 1.0,
        "tokenize": 0.1,
        "admitted": None,
        "first_token": 1.5,
        "last_token": 2.0,
        "ended": 2.0,
        "prompt": 5,
        "cached": 0,
        "tokens": 3,
        "drafted": 0,
        "accepted": 0,
        "finish": "length",
    }


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path
