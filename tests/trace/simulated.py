"""Ticks without a clock or a machine: what each instruction of a small Llama costs, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Document = dict[str, Any]

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
