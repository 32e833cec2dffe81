"""Trace documents as a clock and a machine would leave them, made without either.

Whatever can be added up agrees: an instruction's seconds are the sum of what it took in each tick,
the tree's leaves are the wall time, a tick's stages hold what is inside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st

Document = dict[str, Any]
Kind = Literal["run", "streams", "encoder"]

READ = 20e9
F32, INT8 = 180e9, 700e9
CHUNK = 128
"""Tokens of a prompt that a tick has room for."""

PAGE = 32


@dataclass(frozen=True)
class Slot:
    """One instruction of the program: its cost a row, and what it reads once a run."""

    opcode: str
    layer: int | None
    text: str
    operations: int
    weights: int
    activations: int
    kv: int = 0
    peak: float = INT8


def layer(number: int) -> list[Slot]:
    """The instructions of a layer of a small Llama."""
    n, w = number, f"blk.{number}"
    gate = f"gate={w}.ffn_gate.weight Q4_1[1536, 576], up={w}.ffn_up.weight Q4_1[1536, 576]"
    qkv = f"{n}.q+k+v f32[T, 960] ← {n}.attn_norm.i8 i8[T, 576], w={w}.attn_q.weight Q4_1[576, 576]"
    cached = f"cache=cache.{n} kv[3, 64], heads=9"
    return [
        Slot(
            "rmsnorm", n, f"{n}.attn_norm.i8 ← x, w={w}.attn_norm.weight F32[576]", 4030, 2304, 3096
        ),
        Slot("matmul", n, qkv, 1_110_000, 345_600, 4416),
        Slot(
            "rope_store", n, f"{n}.q+k+v[0:576], cache.{n} ← {n}.q+k+v", 2300, 128, 6144, 768, F32
        ),
        Slot(
            "attend", n, f"{n}.attention.i8 ← {n}.q+k+v[0:576], {cached}", 4080, 0, 3096, 768, F32
        ),
        Slot(
            "matmul", n, f"x ← {n}.attention.i8, w={w}.attn_output.weight", 664_000, 207_360, 5184
        ),
        Slot(
            "rmsnorm", n, f"{n}.ffn_norm.i8 ← x, w={w}.ffn_norm.weight F32[576]", 4030, 2304, 3096
        ),
        Slot(
            "gated_matmul", n, f"{n}.gated.i8 ← {n}.ffn_norm.i8, {gate}", 3_550_000, 1_105_920, 2304
        ),
        Slot("matmul", n, f"x ← {n}.gated.i8, w={w}.ffn_down.weight", 1_770_000, 552_960, 6336),
    ]


def program(layers: int) -> list[Slot]:
    """A whole program."""
    table = "table=token_embd.weight Q8_0[49152, 576]"
    return [
        Slot("embed", None, f"x f32[T, 576] ← token_ids i32[T], {table}", 0, 612, 2304),
        *(slot for number in range(layers) for slot in layer(number)),
        Slot("select", None, "last f32[L, 576] ← x f32[T, 576]", 0, 0, 4608),
        Slot("rmsnorm", None, "normed.i8 ← last, w=output_norm.weight F32[576]", 4030, 2304, 3096),
        Slot("matmul", None, f"logits ← normed.i8, w{table[5:]}", 56_600_000, 30_081_024, 197_256),
    ]


@dataclass
class Asked:
    """A request on its way."""

    arrived: float
    prompt: int
    wanted: int
    done: int = 0
    tokens: int = 0
    times: dict[str, float] = field(default_factory=dict)

    @property
    def context(self) -> int:
        return self.done + max(self.tokens - 1, 0)


class Simulated:
    """Ticks on a computer that is as fast as its limits, within some noise."""

    def __init__(
        self, slots: Sequence[Slot], asked: list[Asked], random: np.random.Generator, slower: float
    ) -> None:
        self.slots, self.asked, self.random, self.slower = slots, asked, random, slower
        self.now = 0.004
        self.between = self.now
        self.ticks: list[Document] = []
        self.operations = np.zeros(len(slots), np.int64)
        self.kv = np.zeros(len(slots), np.int64)
        self.activations = np.zeros(len(slots), np.int64)
        self.attainable = np.zeros(len(slots))

    def run(self, limit: int) -> None:
        """Tick until all is done, or so often."""
        while len(self.ticks) < limit and self._open():
            self._tick()

    def _open(self) -> list[Asked]:
        return [asked for asked in self.asked if "ended" not in asked.times]

    def _batch(self) -> list[tuple[Asked, int]]:
        room, batch = CHUNK, []
        for asked in self._open():
            if asked.arrived > self.now:
                continue
            new = 1 if asked.done == asked.prompt else min(asked.prompt - asked.done, room)
            room -= new if asked.done < asked.prompt else 0
            if new:
                asked.times.setdefault("admitted", self.now)
                batch.append((asked, new))
        return batch

    def _wait(self) -> None:
        later = min(asked.arrived for asked in self._open()) + 1e-5
        if later > self.now:
            self.between += later - self.now
            self.now = later

    def _tick(self) -> None:
        batch = self._batch()
        if not batch:
            self._wait()
            batch = self._batch()
        lengths = [new for _, new in batch]
        contexts = [asked.context for asked, _ in batch]
        prompts = sum(new for asked, new in batch if asked.done < asked.prompt)
        tick = self._timed(lengths, contexts)
        tokens = self._advance(batch, self.now + stages(tick))
        self.ticks.append(tick | self._standing(lengths, prompts, tokens))
        pause = float(self.random.uniform(2e-6, 2e-5))
        self.between += pause
        self.now += stages(tick) + pause

    def _timed(self, lengths: list[int], contexts: list[int]) -> Document:
        ns = self._spent(sum(lengths), lengths, contexts)
        inner = {"prepare": 9e-6, "turn": 2e-6, "finish": 4e-6, "choose": 3e-5, "text": 1e-5}
        inner = {name: float(s * self.random.uniform(0.8, 1.3)) for name, s in inner.items()}
        busy = [int(value * self.random.uniform(1.6, 1.98)) for value in ns]
        inside = inner["prepare"] + inner["turn"] + inner["finish"]
        return {
            "start": self.now,
            "fetch": float(self.random.uniform(1e-6, 4e-6)),
            "decode": float(self.random.uniform(1e-5, 3e-5)),
            "execute": sum(ns) / 1e9 + inside + float(self.random.uniform(5e-6, 2e-5)),
            "write_back": inner["choose"] + inner["text"] + 1.5e-5,
            **inner,
            "lengths": lengths,
            "contexts": contexts,
            "ns": ns,
            "busy_ns": busy,
        }

    def _spent(self, rows: int, lengths: list[int], contexts: list[int]) -> list[int]:
        history = sum(contexts) + sum(lengths)
        ns = []
        for index, slot in enumerate(self.slots):
            each = len(lengths) if slot.layer is None and slot.opcode != "embed" else rows
            operations = slot.operations * each
            kv = slot.kv * (history if slot.opcode == "attend" else each)
            if slot.opcode == "attend":
                operations += 4 * 576 * history
            activations = slot.activations * each
            moved = slot.weights + activations + kv
            attainable = max(moved / READ, operations / slot.peak)
            self.operations[index] += operations
            self.kv[index] += kv
            self.activations[index] += activations
            self.attainable[index] += attainable
            noise = self.slower * float(self.random.lognormal(0.15, 0.08))
            ns.append(int((attainable * noise + 1.2e-6) * 1e9))
        return ns

    def _advance(self, batch: list[tuple[Asked, int]], ended: float) -> int:
        tokens = 0
        for asked, new in batch:
            asked.done = min(asked.done + new, asked.prompt)
            if asked.done < asked.prompt:
                continue
            tokens += 1
            asked.tokens += 1
            asked.times.setdefault("first_token", ended)
            asked.times["last_token"] = ended
            if asked.tokens >= asked.wanted:
                asked.times["ended"] = ended
        return tokens

    def _standing(self, lengths: list[int], prompts: int, tokens: int) -> Document:
        held = sum(-(-asked.context // PAGE) for asked in self._open())
        waiting = [asked for asked in self._open() if "admitted" not in asked.times]
        return {
            "rows": sum(lengths),
            "prompt_tokens": prompts,
            "drafts": 0,
            "tokens": tokens,
            "running": len(self._open()) - len(waiting),
            "waiting": sum(asked.arrived <= self.now for asked in waiting),
            "cached_pages": sum(asked.context // PAGE for asked in self.asked) - held // 2,
            "used_pages": held,
            "memory": 210_000_000 + 40_000 * len(self.ticks) + 1_500_000 * held,
        }


def stages(tick: Document) -> float:
    """The seconds of a tick."""
    total: float = tick["fetch"] + tick["decode"] + tick["execute"] + tick["write_back"]
    return total


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
