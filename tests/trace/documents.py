"""Trace documents as a clock and a machine would leave them, made without either.

Whatever can be added up agrees: an instruction's seconds are the sum of what it took in each tick,
the tree's leaves are the wall time, a tick's stages hold what is inside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from hypothesis import strategies as st

from tests.trace.simulated import F32, INT8, READ, Asked, Document, Simulated, Slot, program

Kind = Literal["run", "streams", "encoder"]


def document(
    kind: Kind = "run",
    *,
    layers: int = 30,
    ticks: int = 64,
    streams: int = 1,
    prompt: int = 200,
    limits: bool = True,
    load: bool = True,
    slower: float = 1.0,
    seed: int = 0,
) -> Document:
    """A trace of so many ticks at most; `slower` is how much longer every instruction takes."""
    random = np.random.default_rng(seed)
    slots = program(layers)
    lengths = [int(prompt * random.uniform(0.5, 1.5)) + 1 for _ in range(streams)]
    each = 1 if kind == "encoder" else max(ticks // max(1, min(streams, 4)), 1)
    apart = 0.011 * streams**0.5
    asked = [
        Asked(0.002 + number * apart, length, max(1, int(each * random.uniform(0.5, 1))))
        for number, length in enumerate(lengths)
    ]
    if streams == 1 and kind == "run":
        asked[0].wanted = ticks
    clock = Simulated(slots, asked, random, slower)
    clock.run(ticks)
    return {
        "format": "overclock-trace",
        "version": 1,
        "created": "2026-07-01T12:00:00+00:00",
        "overclock": "0.1.0",
        "kind": kind,
        "what": {
            "prompt_tokens": sum(tick["prompt_tokens"] for tick in clock.ticks),
            "tokens": sum(tick["tokens"] for tick in clock.ticks),
            "streams": streams,
        },
        "model": {
            "name": "SmolLM2-135M-Instruct",
            "exact": False,
            "context": 8192,
            "vocabulary": 49152,
            "layers": layers,
            "weight_bytes": sum(slot.weights for slot in slots),
            "fingerprint": "6f1c0de5a1b2c3d4",
        },
        "machine": {
            "name": "native",
            "tier": "avx512",
            "threads": 2,
            "kv": "f16",
            "cpu": "A processor",
            "cores": 2,
        },
        "limits": LIMITS if limits else None,
        "load": LOAD if load else None,
        **account(clock),
        **waiting(clock, limits),
        "instructions": instructions(clock, limits),
        "ticks": clock.ticks,
        "requests": [request(asked, clock.now) for asked in clock.asked],
    }


LIMITS = {
    "threads": 2,
    "read_gbs": READ / 1e9,
    "f32_gflops": F32 / 1e9,
    "int8_gops": INT8 / 1e9,
    "levels": [
        {"name": "L1", "bytes": 98_304, "gbs": 410.0},
        {"name": "L2", "bytes": 4_194_304, "gbs": 150.0},
        {"name": "L3", "bytes": 56_623_104, "gbs": 48.0},
        {"name": "memory", "bytes": 25_769_803_776, "gbs": READ / 1e9},
    ],
    "measured": "2026-07-01T11:58:00+00:00",
}

LOAD = {
    "seconds": 0.61,
    "parts": [
        {"name": "read", "seconds": 0.12},
        {"name": "compile", "seconds": 0.05},
        {"name": "repack", "seconds": 0.44},
    ],
    "major_faults": 12,
    "read_bytes": 101_000_000,
}


def leaf(name: str, seconds: float) -> Document:
    return {"name": name, "seconds": seconds, "children": []}


def node(name: str, seconds: float, children: list[Document]) -> Document:
    return {"name": name, "seconds": seconds, "children": children}


def account(clock: Simulated) -> Document:
    """The tree, and how much of the wall time it explains."""
    ticks, tokenise, unaccounted = clock.ticks, 0.0011, 0.0004
    sums = {
        name: sum(tick[name] for tick in ticks)
        for name in ("fetch", "decode", "execute", "write_back", "choose", "text")
    }
    rest = sums["write_back"] - sums["choose"] - sums["text"]
    children = [
        leaf("tokenise", tokenise),
        leaf("fetch", sums["fetch"]),
        leaf("decode", sums["decode"]),
        node("execute", sums["execute"], execution(clock, sums["execute"])),
        node(
            "write back",
            sums["write_back"],
            [leaf("choose", sums["choose"]), leaf("text", sums["text"]), leaf("pages", rest)],
        ),
        leaf("between ticks", clock.between),
        leaf("unaccounted", unaccounted),
    ]
    wall = sum(child["seconds"] for child in children)
    return {
        "wall_s": wall,
        "accounted_s": wall - unaccounted,
        "accounted_share": (wall - unaccounted) / wall,
        "tree": node("wall", wall, children),
    }


def waiting(clock: Simulated, limits: bool) -> Document:
    """What two threads waited for, and how much of the limit all instructions reached."""
    seconds, busy = sum(totals(clock, "ns")), sum(totals(clock, "busy_ns"))
    share = float(clock.attainable.sum()) / seconds if limits and seconds else None
    return {"wait_s": max(0.0, 2 * seconds - busy), "limit_share": share}


def execution(clock: Simulated, seconds: float) -> list[Document]:
    """What is inside the stage execute."""
    spent = totals(clock, "ns")
    around = [leaf(name, sum(tick[name] for tick in clock.ticks)) for name in ("prepare", "turn")]
    opcodes = dict.fromkeys(slot.opcode for slot in clock.slots)
    inside = [opcode_node(opcode, clock.slots, spent) for opcode in opcodes]
    finish = leaf("finish", sum(tick["finish"] for tick in clock.ticks))
    known = sum(child["seconds"] for child in (*around, *inside, finish))
    return [*around, *inside, finish, leaf("call", max(seconds - known, 0.0))]


def opcode_node(opcode: str, slots: Sequence[Slot], spent: Sequence[float]) -> Document:
    layers: dict[str, float] = {}
    for slot, seconds in zip(slots, spent):
        if slot.opcode == opcode:
            name = "outside layers" if slot.layer is None else f"layer {slot.layer}"
            layers[name] = layers.get(name, 0.0) + seconds
    leaves = [leaf(name, seconds) for name, seconds in layers.items()]
    return node(opcode, sum(layers.values()), leaves)


def totals(clock: Simulated, name: str) -> list[float]:
    """Seconds of each instruction over all ticks."""
    return [
        sum(tick[name][index] for tick in clock.ticks) / 1e9 for index in range(len(clock.slots))
    ]


def instructions(clock: Simulated, limits: bool) -> list[Document]:
    spent, busy = totals(clock, "ns"), totals(clock, "busy_ns")
    runs = len(clock.ticks)
    return [
        {
            "index": index,
            "opcode": slot.opcode,
            "layer": slot.layer,
            "text": slot.text,
            "runs": runs,
            "seconds": spent[index],
            "busy_s": busy[index],
            "operations": int(clock.operations[index]),
            "weight_bytes": slot.weights * runs,
            "activation_bytes": int(clock.activations[index]),
            "kv_bytes": int(clock.kv[index]),
            **judged(clock, index, spent[index], limits),
        }
        for index, slot in enumerate(clock.slots)
    ]


def judged(clock: Simulated, index: int, seconds: float, limits: bool) -> Document:
    if not limits:
        return dict.fromkeys(("attainable_s", "share", "bound", "reason"))
    slot, attainable = clock.slots[index], float(clock.attainable[index])
    arithmetic = clock.operations[index] / slot.peak >= attainable * 0.999 and attainable > 0
    bound = "arithmetic" if arithmetic else "memory"
    share = attainable / seconds if seconds else 0.0
    return {
        "attainable_s": attainable,
        "share": share,
        "bound": bound,
        "reason": bound if share > 0.5 else "latency",
    }


def request(asked: Asked, now: float) -> Document:
    return {
        "arrived": asked.arrived,
        "tokenize": 0.0011,
        "admitted": asked.times.get("admitted"),
        "first_token": asked.times.get("first_token"),
        "last_token": asked.times.get("last_token"),
        "ended": asked.times.get("ended", max(now, asked.arrived)),
        "prompt": asked.prompt,
        "cached": 0,
        "tokens": asked.tokens,
        "drafted": 0,
        "accepted": 0,
        "finish": "length" if "ended" in asked.times else "cancelled",
    }


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Any small trace, with names that nobody has checked."""
    result = document(
        draw(st.sampled_from(["run", "streams", "encoder"])),
        layers=draw(st.integers(0, 3)),
        ticks=draw(st.integers(0, 12)),
        streams=draw(st.integers(1, 5)),
        prompt=draw(st.integers(1, 300)),
        limits=draw(st.booleans()),
        load=draw(st.booleans()),
        slower=draw(st.floats(0.1, 10)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    result["model"]["name"] = draw(st.text())
    for instruction in result["instructions"]:
        instruction["text"] = draw(st.text(max_size=20))
    return result
