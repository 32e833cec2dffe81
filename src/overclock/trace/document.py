"""A trace as one JSON document: what was recorded, and what follows from it.

The document is all that the page, the Perfetto file and the comparison see. Times are in seconds
from the beginning of the trace, unless a name ends in `_ns`.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from overclock.machine import computer
from overclock.machine.limits import Limits, installed_version
from overclock.program import describe
from overclock.program.cost import Load
from overclock.program.program import KvFormat, Program
from overclock.trace.account import InstructionAccount, account
from overclock.trace.costs import Coster, Costs
from overclock.trace.loading import Loading
from overclock.trace.record import RequestRecord, TickDetail, TickRecord
from overclock.trace.recorder import Recorder
from overclock.trace.tree import Node, accounted, timeline

FORMAT = "overclock-trace"
VERSION = 1

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Subject:
    """What was traced.

    kind: run, streams or encoder; what: the figures of the command, such as prompt_tokens
    tier: of the machine's kernels, "" if it has none; ranks: see `cost.Load`
    """

    kind: str
    program: Program
    model: str
    weight_bytes: int
    machine: str
    tier: str
    threads: int
    kv: KvFormat
    what: Mapping[str, object]
    loading: Loading | None = None
    load_s: float = 0.0
    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def document(subject: Subject, recorder: Recorder, limits: Limits | None) -> Json:
    """The trace of `subject`; without `limits` nothing is held against what the computer can do."""
    coster = Coster(subject.program, subject.kv)
    costs = [_costs(coster, subject, tick.detail) for tick in recorder.ticks]
    found = account(subject.program, recorder.ticks, costs, coster.integers, limits, subject)
    tree = timeline(recorder, subject.program)
    known = accounted(tree)
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "overclock": installed_version(),
        "kind": subject.kind,
        "what": dict(subject.what),
        "model": _model(subject),
        "machine": {
            "name": subject.machine,
            "tier": subject.tier,
            "threads": subject.threads,
            "kv": subject.kv,
            "cpu": computer.cpu_name(),
            "cores": computer.usable_cores(),
        },
        "limits": None if limits is None else _limits(limits, subject.threads),
        "load": None if subject.loading is None else _load(subject.loading, subject.load_s),
        "wall_s": tree.seconds,
        "accounted_s": known,
        "accounted_share": known / tree.seconds if tree.seconds else 1.0,
        "limit_share": found.limit_share,
        "wait_s": found.wait_s,
        "tree": _tree(tree),
        "instructions": [
            _instruction(subject.program, index, each)
            for index, each in enumerate(found.instructions)
        ],
        "ticks": [_tick(tick, recorder.began) for tick in recorder.ticks],
        "requests": [_request(each, recorder.began) for each in recorder.requests],
    }


def fingerprint(program: Program) -> str:
    """Names a program: equal for equal instructions over equal shapes and formats."""
    lines = (describe.instruction(program, each) for each in program.instructions)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _costs(coster: Coster, subject: Subject, detail: TickDetail | None) -> Costs | None:
    if detail is None:
        return None
    load = Load(
        tuple(detail.lengths.tolist()),
        tuple(detail.contexts.tolist()),
        detail.selected,
        () if detail.adapters is None else tuple(detail.adapters.tolist()),
        subject.ranks,
    )
    return coster.of(load, detail.output)


def _model(subject: Subject) -> Json:
    program = subject.program
    layers = [each.layer for each in program.instructions if each.layer is not None]
    return {
        "name": subject.model,
        "exact": program.exact,
        "context": program.context,
        "vocabulary": program.vocabulary,
        "layers": max(layers, default=-1) + 1,
        "weight_bytes": subject.weight_bytes,
        "fingerprint": fingerprint(program),
    }


def _limits(limits: Limits, threads: int) -> Json:
    return {
        "threads": threads,
        "read_gbs": limits.limit("read_bandwidth_gbs", threads),
        "f32_gflops": limits.limit("f32_gflops", threads),
        "int8_gops": limits.limit("int8_gops", threads),
        "levels": [level._asdict() for level in limits.levels(threads)],
        "measured": limits.measured,
    }


def _load(loading: Loading, seconds: float) -> Json:
    return {
        "seconds": seconds,
        "parts": [{"name": name, "seconds": each} for name, each in loading.parts.items()],
        "major_faults": loading.major_faults,
        "read_bytes": loading.read_bytes,
    }


def _tree(node: Node) -> Json:
    return {
        "name": node.name,
        "seconds": node.seconds,
        "children": [_tree(child) for child in node.children],
    }


def _instruction(program: Program, index: int, found: InstructionAccount) -> Json:
    instruction = program.instructions[index]
    return {
        "index": index,
        "opcode": instruction.op.value,
        "layer": instruction.layer,
        "text": describe.instruction(program, instruction),
        **asdict(found),
    }


def _tick(tick: TickRecord, began: float) -> Json:
    detail = tick.detail
    return {
        "start": tick.started - began,
        "fetch": tick.fetch,
        "decode": tick.decode,
        "execute": tick.execute,
        "write_back": tick.write_back,
        **_inside(detail),
        "rows": tick.rows,
        "prompt_tokens": tick.prompt_tokens,
        "drafts": tick.drafts,
        "tokens": tick.tokens,
        "running": tick.running,
        "waiting": tick.waiting,
        "cached_pages": tick.cached_pages,
        "used_pages": tick.used_pages,
        "memory": 0 if detail is None else detail.memory,
        "lengths": [] if detail is None else detail.lengths.tolist(),
        "contexts": [] if detail is None else detail.contexts.tolist(),
        "ns": [] if detail is None else _nanoseconds(detail.counters.seconds),
        "busy_ns": [] if detail is None else _nanoseconds(busy(detail)),
    }


def _inside(detail: TickDetail | None) -> Json:
    names = ("prepare", "turn", "finish", "call")
    counters = None if detail is None else detail.counters
    return {
        "choose": 0.0 if detail is None else detail.choose,
        "text": 0.0 if detail is None else detail.text,
        **{name: 0.0 if counters is None else getattr(counters, name) for name in names},
    }


def busy(detail: TickDetail) -> NDArray[np.float64]:
    """Seconds of all threads together in each instruction's kernel, ``f64[instructions]``.

    A machine that does not tell is taken to be one thread that is always busy.
    """
    counters = detail.counters
    return counters.seconds if counters.busy is None else np.sum(counters.busy, axis=0)


def _nanoseconds(seconds: NDArray[np.float64]) -> list[int]:
    whole: Sequence[int] = np.rint(seconds * 1e9).astype(np.int64).tolist()
    return list(whole)


def _request(request: RequestRecord, began: float) -> Json:
    times = ("arrived", "admitted", "first_token", "last_token", "ended")
    found: Json = asdict(request)
    for name in times:
        at = getattr(request, name)
        found[name] = None if at is None else at - began
    return found
