"""Two traces of one model: what moved, and whether that is larger than the noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overclock.errors import InputError
from overclock.trace.likeness import Alike, Key, Kind, Ticks, alike, keys
from overclock.trace.noise import LARGEST, Difference, benjamini_hochberg, blocks, difference
from overclock.trace.reading import Document

Verdict = Literal["faster", "slower", "no difference", "too few ticks"]

CHANCE = 0.05
"""Most share of the differences told that may be chance."""

TWINS = 2.0
"""A change must be so many times what two runs of the same differ by."""

YARDSTICK = 0.05
"""From here on, a difference of the computers is worth a word."""

LEAST_NS = 1e-3
"""What took less took nothing."""

STAGES = ("fetch", "decode", "execute", "write back")
EXECUTE = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One thing in both traces. Times are in seconds of a tick, medians.

    difference: of B against A, None if there are too few ticks to say
    q: its probability as one of all that were compared; what is told has at most `CHANCE`
    floor: ratio (or its inverse) that nothing is told up to, as runs of one program differ so much
    """

    name: str
    layer: int | None
    a: float
    b: float
    difference: Difference | None
    q: float | None = None
    floor: float = 1.0

    @property
    def verdict(self) -> Verdict:
        """What can be said of B."""
        if self.difference is None or self.q is None:
            return "too few ticks"
        ratio = self.difference.ratio
        if self.q > CHANCE or 1 / self.floor <= ratio <= self.floor:
            return "no difference"
        return "faster" if ratio < 1 else "slower"

    @property
    def gained(self) -> float:
        """Seconds that B takes less of a tick."""
        return self.a - self.b


@dataclass(frozen=True, slots=True)
class Part:
    """What like ticks of both traces tell; the changes of instructions are the largest first.

    rows: the fewest and most of a tick; ticks: how many of A and of B
    """

    kind: Kind
    rows: tuple[int, int]
    ticks: tuple[int, int]
    whole: Change
    stages: tuple[Change, ...]
    opcodes: tuple[Change, ...]
    instructions: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """B held against A.

    notes: what else differs, and what the figures may come of; only_a, only_b: instructions that
    the other one has not
    """

    notes: tuple[str, ...]
    parts: tuple[Part, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


class _Series(NamedTuple):
    """One thing's times in ns: ``f64[n]`` of A and of B; `grows` with the context or does not."""

    name: str
    layer: int | None
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    grows: bool


def compare(a: Document, b: Document, again: Document | None = None) -> Comparison:
    """Compare two traces, as `read_document` gives them.

    again: another trace of what A is of; what these two differ by is noise that one trace alone
    cannot show, and a change must be larger than `TWINS` times that

    Raises InputError if they are of different models.
    """
    first, second = keys(a), keys(b)
    _check_model(a, b, first == second)
    parts = tuple(_part(each, a, b) for each in alike(a, b))
    twins: tuple[Part, ...] = ()
    if again is not None:
        _check_model(a, again, first == keys(again))
        twins = tuple(_part(each, a, again) for each in alike(a, again))
        parts = tuple(_above(part, twins) for part in parts)
    notes = (*_settings(a, b), *_yardstick(a, b), *_among(twins), *_together(parts))
    return Comparison(
        notes=(*notes, *_nothing(parts)),
        parts=parts,
        only_a=_only(first, second),
        only_b=_only(second, first),
    )


def _check_model(a: Document, b: Document, is_same_program: bool) -> None:
    """One model, though its program may have been compiled in another way."""
    models = a["model"], b["model"]
    if models[0]["fingerprint"] == models[1]["fingerprint"]:
        return
    ways = [(each["model"]["exact"], each["machine"]["kv"]) for each in (a, b)]
    compiled = not is_same_program or ways[0] != ways[1]
    shapes = [tuple(model[name] for name in ("name", "layers", "vocabulary")) for model in models]
    if shapes[0] != shapes[1] or not compiled:
        names = " and ".join(f"{model['name']} ({model['layers']} layers)" for model in models)
        weights = " with other weights" if shapes[0] == shapes[1] else ""
        raise InputError(
            f"the traces are of different models, {names}{weights}; compare two of the same"
        )


# What else differs


def _settings(a: Document, b: Document) -> Iterator[str]:
    places = [("machine", name) for name in ("name", "cpu", "threads", "tier", "kv")]
    places += [("model", "exact")]
    for group, name in places:
        if a[group][name] != b[group][name]:
            what = "machine" if name == "name" else name
            yield f"{what} differs: {a[group][name]} in A, {b[group][name]} in B"
    for name in ("kind", "overclock"):
        if a[name] != b[name]:
            yield f"{name} differs: {a[name]} in A, {b[name]} in B"


def _yardstick(a: Document, b: Document) -> Iterator[str]:
    """What the computers could do when the traces were made."""
    speeds = [each["limits"] and each["limits"]["read_gbs"] for each in (a, b)]
    if not all(speeds):
        return
    if a["limits"]["measured"] == b["limits"]["measured"]:
        yield "both hold the same measurement of the computer, so it may have changed in between"
    elif abs(speeds[1] / speeds[0] - 1) > YARDSTICK:
        yield (
            f"the computer read {speeds[0]:.1f} GB/s for A and {speeds[1]:.1f} for B "
            f"({speeds[1] / speeds[0] - 1:+.0%}): what is bound by memory changes with that"
        )


def _together(parts: Iterable[Part]) -> Iterator[str]:
    """Whether all instructions moved by the same factor, which a change seldom does."""
    for part in parts:
        known = [each for each in part.instructions if each.difference is not None]
        times = np.array([each.a for each in known])
        if len(known) < 8 or not times.sum():
            continue
        logs = np.log([each.difference.ratio for each in known if each.difference])
        low, middle, high = _quantiles(logs, times)
        if abs(middle) > YARDSTICK and high - low < abs(middle) / 2:
            yield (
                f"{part.kind}: nearly all instructions changed alike, {np.expm1(middle):+.0%}; "
                "that is more likely the computer than the program"
            )


def _among(twins: Iterable[Part]) -> Iterator[str]:
    for part in twins:
        if part.whole.difference is None:
            continue
        yield (
            f"{part.kind}: both traces of A differ by {np.expm1(_common(part)):.1%} in the middle; "
            f"what is told is more than {TWINS:g} times what they differ by"
        )


def _common(part: Part) -> float:
    """The logarithm of the factor by which instructions differ, in the middle of their time."""
    known = [each for each in part.instructions if each.difference is not None]
    if not known:
        return 0.0
    logs = np.abs(np.log([each.difference.ratio for each in known if each.difference]))
    return float(_quantiles(logs, np.array([each.a for each in known]))[1])


def _above(part: Part, twins: Sequence[Part]) -> Part:
    """The part with the floors that another trace of A gives."""
    for twin in twins:
        if twin.kind == part.kind:
            return _raised(part, twin)
    return part


def _raised(part: Part, twin: Part) -> Part:
    common = _common(twin)
    reached: dict[tuple[str, int | None], float] = {}
    for each in (twin.whole, *twin.stages, *twin.opcodes, *twin.instructions):
        if each.difference is not None:
            key = each.name, each.layer
            reached[key] = max(reached.get(key, 0.0), abs(float(np.log(each.difference.ratio))))

    def raised(change: Change) -> Change:
        most = max(common, reached.get((change.name, change.layer), 0.0))
        return replace(change, floor=float(np.exp(min(TWINS * most, LARGEST))))

    return replace(
        part,
        whole=raised(part.whole),
        stages=tuple(map(raised, part.stages)),
        opcodes=tuple(map(raised, part.opcodes)),
        instructions=tuple(map(raised, part.instructions)),
    )


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quartiles of values that count by their weights."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(reached, [0.25, 0.5, 0.75])
    found: NDArray[np.float64] = values[order][np.minimum(places, len(values) - 1)]
    return found


def _nothing(parts: Sequence[Part]) -> Iterator[str]:
    if not parts:
        yield "the traces have no ticks of the same kind and rows; trace the same work twice"


def _only(these: list[Key], others: list[Key]) -> tuple[str, ...]:
    known = set(others)
    return tuple(_name(key) for key in these if key not in known)


def _name(key: Key) -> str:
    opcode, _, text, _ = key
    return text if text.startswith(opcode) else f"{opcode} {text}"


# What moved


def _part(found: Alike, a: Document, b: Document) -> Part:
    contexts = found.a.contexts, found.b.contexts
    changes = [
        [_change(series, contexts) for series in family]
        for family in (_stages(found, a), _opcodes(found, a, b), _instructions(found, a, b))
    ]
    (whole, *stages), opcodes, instructions = map(_judged, changes)
    return Part(
        kind=found.kind,
        rows=found.rows,
        ticks=(len(found.a), len(found.b)),
        whole=whole,
        stages=tuple(stages),
        opcodes=_largest(opcodes),
        instructions=_largest(instructions),
    )


def _stages(found: Alike, a: Document) -> Iterator[_Series]:
    grows = any(each["kv_bytes"] for each in a["instructions"])
    first, second = found.a.stages, found.b.stages
    yield _Series("tick", None, first.sum(axis=1), second.sum(axis=1), grows)
    for place, name in enumerate(STAGES):
        yield _Series(name, None, first[:, place], second[:, place], grows and place == EXECUTE)


def _opcodes(found: Alike, a: Document, b: Document) -> Iterator[_Series]:
    names = [[each["opcode"] for each in document["instructions"]] for document in (a, b)]
    for name in dict.fromkeys(names[0]):
        if name not in names[1]:
            continue
        grows = any(each["kv_bytes"] for each in a["instructions"] if each["opcode"] == name)
        first, second = _sum(found.a, names[0], name), _sum(found.b, names[1], name)
        yield _Series(name, None, first, second, grows)


def _sum(ticks: Ticks, names: list[str], name: str) -> NDArray[np.float64]:
    total: NDArray[np.float64] = ticks.ns[:, [each == name for each in names]].sum(axis=1)
    return total


def _instructions(found: Alike, a: Document, b: Document) -> Iterator[_Series]:
    places = {key: place for place, key in enumerate(keys(b))}
    for place, key in enumerate(keys(a)):
        if key in places:
            grows = bool(a["instructions"][place]["kv_bytes"])
            first, second = found.a.ns[:, place], found.b.ns[:, places[key]]
            yield _Series(_name(key), key[1], first, second, grows)


def _change(series: _Series, contexts: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Change:
    """The change of one series; ticks in which it took no time did not have it."""
    had = series.a > LEAST_NS, series.b > LEAST_NS
    times = series.a[had[0]], series.b[had[1]]
    cut = [blocks(each, x[kept]) for each, x, kept in zip(times, contexts, had)]
    found = None
    if cut[0] is not None and cut[1] is not None:
        found = difference(cut[0], cut[1], by_context=series.grows)
    return Change(series.name, series.layer, _median(times[0]), _median(times[1]), found)


def _median(times: NDArray[np.float64]) -> float:
    """In seconds; 0 if there are none."""
    return 1e-9 * float(np.median(times)) if len(times) else 0.0


def _judged(changes: list[Change]) -> list[Change]:
    """With the probabilities that hold for all together."""
    told = [each for each in changes if each.difference is not None]
    together = iter(benjamini_hochberg([each.difference.p for each in told if each.difference]))
    return [replace(each, q=next(together)) if each.difference else each for each in changes]


def _largest(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Those that took any time, the largest change first."""
    ran = (each for each in changes if each.a or each.b)
    return tuple(sorted(ran, key=lambda each: -abs(each.gained)))
