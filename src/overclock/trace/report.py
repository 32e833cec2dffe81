"""A trace document as tables, from the whole down to single instructions.

Rows are tuples of text; whoever prints them decides how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

Json = Mapping[str, object]
Row = tuple[str, ...]

STAGE_DEPTH = 2
"""Levels of the tree that the table of stages shows."""

MOST_INSTRUCTIONS = 10

REASONS = {
    "memory": "near the limit of memory: fewer bytes would help",
    "arithmetic": "near the limit of arithmetic: fewer operations would help",
    "kernel": "far from both limits: unpacking, scaling, converting",
    "latency": "work too small to fill the machine",
    "waiting": "threads wait for each other",
}


class Table(NamedTuple):
    """A heading, the names of columns, and rows."""

    title: str
    columns: Row
    rows: Sequence[Row]


def tables(document: Json) -> list[Table]:
    """The report: stages, opcodes, layers, slowest instructions."""
    return [stages(document), opcodes(document), layers(document), slowest(document)]


def headline(document: Json) -> str:
    """The trace in one line."""
    wall = _number(document["wall_s"])
    what = _object(document["what"])
    parts = [f"{wall:.3f} s", f"{_number(document['accounted_share']):.1%} accounted for"]
    tokens = _number(what.get("tokens", 0))
    if tokens:
        parts.append(f"{_number(what['prompt_tokens']):,.0f} + {tokens:,.0f} tokens")
        parts.append(f"{tokens / wall:,.1f} tokens/s in all")
    elif what.get("texts"):
        parts.append(f"{_number(what['texts']) / wall:,.1f} texts/s")
    share = document.get("limit_share")
    if share is not None:
        parts.append(f"instructions reach {_number(share):.0%} of this computer's limit")
    return " · ".join(parts)


def stages(document: Json) -> Table:
    """The time from the whole down: stages, and what is inside of them."""
    tree = _object(document["tree"])
    wall = _number(tree["seconds"])
    rows = [
        ("  " * depth + str(node["name"]), seconds(_number(node["seconds"])), share)
        for node, depth in _walk(tree, 0)
        for share in (percent(_number(node["seconds"]), wall),)
    ]
    return Table("where the time went", ("", "time", "of all"), rows)


def opcodes(document: Json) -> Table:
    """Instructions by opcode, the longest first."""
    return _grouped(document, "by opcode", lambda each: str(each["opcode"]), by_time=True)


def layers(document: Json) -> Table:
    """Instructions by layer, in the order of the program."""

    def layer(each: Json) -> str:
        return "outside" if each["layer"] is None else f"layer {each['layer']}"

    return _grouped(document, "by layer", layer, by_time=False)


def slowest(document: Json) -> Table:
    """The instructions that took longest, one by one."""
    found = sorted(_ran(document), key=lambda each: -_number(each["seconds"]))
    total = sum(_number(each["seconds"]) for each in found)
    rows = [
        (
            f"{each['index']} {each['opcode']}",
            "" if each["layer"] is None else str(each["layer"]),
            *_figures([each], total),
            REASONS.get(str(each["reason"]), ""),
        )
        for each in found[:MOST_INSTRUCTIONS]
    ]
    return Table("slowest instructions", ("", "layer", *FIGURES, "because it"), rows)


FIGURES = ("time", "of all", "a run", "GB/s", "GOP/s", "of limit")


def reasons(document: Json) -> dict[str, float]:
    """Reason → share of the instructions' time, the largest first."""
    found: dict[str, float] = {}
    for each in _ran(document):
        if each["reason"] is not None:
            reason = str(each["reason"])
            found[reason] = found.get(reason, 0.0) + _number(each["seconds"])
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return {reason: spent / total for reason, spent in ordered}


def why(document: Json) -> list[str]:
    """Sentences that say what the time went to."""
    return [f"{share:.0%}: {REASONS[reason]}" for reason, share in reasons(document).items()]


def notes(document: Json) -> list[str]:
    """What is worth knowing beside the tables: waiting, loading, queueing."""
    return [*_waiting(document), *_queueing(document), *_loading(document)]


def _waiting(document: Json) -> Iterator[str]:
    machine = _object(document["machine"])
    spent = sum(_number(each["seconds"]) for each in _ran(document))
    threads = _number(machine["threads"])
    if threads > 1 and spent:
        share = _number(document["wait_s"]) / (threads * spent)
        yield f"threads waited at barriers for {share:.1%} of the time of instructions"


def _queueing(document: Json) -> Iterator[str]:
    found = [
        _number(each["admitted"]) - _number(each["arrived"])
        for each in _list(document["requests"])
        if each["admitted"] is not None
    ]
    if len(found) > 1:
        mean = sum(found) / len(found)
        yield (
            f"requests waited {seconds(mean)} on average before they ran, "
            f"{seconds(max(found))} at most"
        )


def _loading(document: Json) -> Iterator[str]:
    if document["load"] is None:
        return
    load = _object(document["load"])
    parts = ", ".join(
        f"{each['name']} {seconds(_number(each['seconds']))}" for each in _list(load["parts"])
    )
    read = load["read_bytes"]
    disk = "" if read is None else f", {_number(read) / 1e6:,.1f} MB of them from storage"
    faults = _number(load["major_faults"])
    yield (
        f"loading took {seconds(_number(load['seconds']))} ({parts}); "
        f"{faults:,.0f} page-cache misses{disk}"
    )


def seconds(value: float) -> str:
    """A time in the unit that suits it."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1.0:
            return f"{value * factor:,.3g} {unit}" if value < 1000 else f"{value:,.0f} s"
    return f"{value * 1e9:,.0f} ns"


def percent(part: float, whole: float) -> str:
    """A share of the whole in per cent."""
    return f"{part / whole:.1%}" if whole else ""


def _grouped(document: Json, title: str, key: Callable[[Json], str], *, by_time: bool) -> Table:
    groups: dict[str, list[Json]] = {}
    for each in _ran(document):
        groups.setdefault(key(each), []).append(each)
    total = sum(_number(each["seconds"]) for each in _ran(document))
    named = list(groups.items())
    if by_time:
        named.sort(key=lambda item: -_sum(item[1], "seconds"))
    rows = [(name, *_figures(found, total), _bounds(found)) for name, found in named]
    return Table(title, ("", *FIGURES, "bound by"), rows)


def _figures(found: list[Json], total: float) -> Row:
    """Time, share of all, time of a run, rates and share of the limit of some instructions."""
    spent = _sum(found, "seconds")
    runs = max(_number(each["runs"]) for each in found)
    size = sum(_sum(found, name) for name in ("weight_bytes", "activation_bytes", "kv_bytes"))
    limit = ""
    if all(each["attainable_s"] is not None for each in found):
        limit = percent(_sum(found, "attainable_s"), spent)
    return (
        seconds(spent),
        percent(spent, total),
        seconds(spent / runs),
        f"{size / spent / 1e9:,.1f}",
        f"{_sum(found, 'operations') / spent / 1e9:,.0f}",
        limit,
    )


def _bounds(found: Iterable[Json]) -> str:
    """The reasons of some instructions by their share, the small ones left out."""
    spent: dict[str, float] = {}
    for each in found:
        if each["reason"] is not None:
            reason = str(each["reason"])
            spent[reason] = spent.get(reason, 0.0) + _number(each["seconds"])
    total = sum(spent.values())
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return ", ".join(reason for reason, each in ordered if each > 0.2 * total)


def _walk(node: Json, depth: int) -> Iterator[tuple[Json, int]]:
    yield node, depth
    if depth < STAGE_DEPTH:
        for child in _list(node["children"]):
            yield from _walk(child, depth + 1)


def _ran(document: Json) -> list[Json]:
    return [each for each in _list(document["instructions"]) if _number(each["seconds"]) > 0]


def _sum(found: Iterable[Json], name: str) -> float:
    return sum(_number(each[name]) for each in found)


def _number(value: object) -> float:
    assert isinstance(value, (int, float)), f"{value!r} is no number"
    return float(value)


def _object(value: object) -> Json:
    assert isinstance(value, Mapping), f"{value!r} is no object"
    return value


def _list(value: object) -> list[Json]:
    assert isinstance(value, list), f"{value!r} is no list"
    return value
