"""What can be changed in a model or in how it runs: cases that differ from one in one thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from overclock.errors import InputError
from overclock.machine import limits as machine_limits
from overclock.model.formats import Format
from overclock.predict import variants
from overclock.predict.measure import kinds_of
from overclock.predict.whatif import Case
from overclock.program.program import KvFormat

FORMATS = (Format.F16, Format.Q8_0, Format.Q6_K, Format.Q4_K, Format.Q4_1, Format.Q4_0)

KV_FORMATS: tuple[KvFormat, ...] = ("f32", "f16", "i8")

STREAMS = (1, 4, 8, 16, 32)

CONTEXTS = (128, 1024, 4096)

SPECULATION = ((0.6, 4), (0.8, 4), (0.9, 8))

NARROW = (0.75, 0.5)


def changes(base: Case, parts: Mapping[str, Sequence[object]] | None = None) -> list[Case]:
    """Cases that differ from `base` in one thing each.

    parts: what to change, and to what: weights, kv, threads, streams, context, layers (how many
        are left out), ffn (the share that stays), speculation (chance and guesses). None for what
        is worth a look, as far as the model allows it

    Raises InputError for a change that the model or this computer does not allow.
    """
    if parts is not None:
        found = [_changed(base, part, value) for part, values in parts.items() for value in values]
    else:
        found = list(_possible(base, _usual(base)))
    return [each for each in found if _differs(base, each)]


def _possible(base: Case, parts: Mapping[str, Sequence[object]]) -> Iterator[Case]:
    for part, values in parts.items():
        for value in values:
            with suppress(InputError):
                yield _changed(base, part, value)


def _usual(base: Case) -> dict[str, Sequence[object]]:
    is_decoder = base.model.config.family == "llama"
    layers = base.model.config.layers
    parts: dict[str, Sequence[object]] = {
        "threads": range(1, machine_limits.usable_cores() + 1),
        "streams": STREAMS,
        "layers": sorted({max(1, layers // 10), max(1, layers // 4)} - {layers}),
        "ffn": NARROW,
        "weights": FORMATS if is_decoder else ("int8",),
    }
    if is_decoder:
        parts["kv"] = KV_FORMATS
        parts["context"] = CONTEXTS
        parts["speculation"] = SPECULATION
    return parts


def _changed(base: Case, part: str, value: object) -> Case:
    """The base with one thing changed. Raises InputError if that is not possible."""
    is_decoder = base.model.config.family == "llama"
    if not is_decoder and part in ("kv", "speculation"):
        raise InputError(f"{base.model.name} is an encoder, which has no {part} to change")
    case = _with(base, part, value, is_decoder)
    room = base.model.config.context
    needed = case.context + (1 + case.drafts if is_decoder else 0)
    if needed > room:
        raise InputError(
            f"{case.what}: {needed:,} tokens are more than the {room:,} that {base.model.name} has "
            "room for; take less"
        )
    cores = machine_limits.usable_cores()
    if part == "threads" and case.threads > cores:
        raise InputError(
            f"{case.what}: this computer has {cores} cores, and with more threads nothing can be "
            "measured; for another computer give its data sheet with --computer"
        )
    return case


def _with(base: Case, part: str, value: object, is_decoder: bool) -> Case:
    model = base.model
    match part, value:
        case "weights", "int8":
            if is_decoder:
                raise InputError("only encoders become int8 on load; take another weight format")
            return replace(base, what="weights int8", group=part, int8=True)
        case "weights", str(name):
            format = _format(name)
            changed = variants.with_format(model, format)
            return replace(base, what=f"weights {format}", group=part, model=changed, int8=False)
        case "kv", ("f32" | "f16" | "i8") as kv:
            return replace(base, what=f"KV {kv}", group=part, kv=kv)
        case "threads", int(threads):
            return replace(base, what=_count(threads, "thread"), group=part, threads=threads)
        case "streams", int(streams):
            what = _count(streams, "stream" if is_decoder else "text")
            return replace(base, what=what, group=part, streams=streams)
        case "context", int(context):
            return replace(base, what=f"context {context:,}", group=part, context=context)
        case "layers", int(count):
            changed = variants.without_layers(model, count)
            what = f"without the last {_count(count, 'layer')}"
            return replace(base, what=what, group=part, model=changed)
        case "ffn", float(share):
            changed = variants.with_narrow_ffn(model, share)
            what = f"feed-forward {changed.config.ffn} wide instead of {model.config.ffn}"
            return replace(base, what=what, group=part, model=changed)
        case "speculation", (float(acceptance), int(drafts)):
            what = f"{drafts} guesses a tick, {acceptance:.0%} of which come true"
            return replace(base, what=what, group=part, acceptance=acceptance, drafts=drafts)
    raise InputError(f"{part} cannot become {value!r}; see `overclock whatif --help`")


def _format(name: str) -> Format:
    try:
        return Format(name)
    except ValueError:
        known = ", ".join(each.value for each in Format if each is not Format.I8)
        raise InputError(f"{name} is no weight format; they are {known}, int8") from None


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _differs(base: Case, case: Case) -> bool:
    """Whether a change changes anything."""
    if case.group == "weights":
        kinds = [kinds_of(each.model, int8=each.int8) for each in (base, case)]
        return kinds[0] != kinds[1]
    same = ("kv", "threads", "streams", "context", "int8", "drafts", "computer")
    return case.model is not base.model or any(
        getattr(base, name) != getattr(case, name) for name in same
    )
