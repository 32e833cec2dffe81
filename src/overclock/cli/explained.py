"""How `overclock explain` shows an explanation: colours on a terminal, numbers when piped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from overclock.cli import heat
from overclock.cli.output import note, print_table

if TYPE_CHECKING:
    from overclock.explain.explanation import Explanation, Target, Wanted
    from overclock.explain.lens import Lens
    from overclock.explain.looks import Looks

MOST = 3
"""Tokens that are named as those looked at or needed most."""

LENS_CELL = 16
"""Columns of a terminal for what a layer would have said."""


def show(found: Explanation, wanted: Wanted) -> None:
    """All that was asked for."""
    click.echo(_headline(found))
    if len(wanted.methods) > 1:
        _blank()
        _summary(found)
    for method in ("attention", "rollout", "occlusion", "lens"):
        if method in wanted.methods:
            _SHOWERS[method](found, len(wanted.methods) == 1)


def _headline(found: Explanation) -> str:
    """The answer as it reads, or what was said of the text."""
    if found.kind == "decoder":
        return heat.shown("".join(target.text for target in found.targets))
    [target] = found.targets
    value = "" if target.value is None else f"\t{target.value:.4f}"
    return heat.shown(target.text) + value


# -- a line for each thing said ---------------------------------------------------------------


def _summary(found: Explanation) -> None:
    """What each was looked at for, what it needed, and from which layer on it was settled."""
    rows = [[heat.shown(target.text), _value(target)] for target in found.targets]
    columns = ["said", "probability" if found.kind != "embedding" else ""]
    for title, cells in _columns(found):
        columns.append(title)
        for row, cell in zip(rows, cells):
            row.append(cell)
    print_table(columns, rows)


def _value(target: Target) -> str:
    return "" if target.value is None else f"{target.value:.3f}"


def _columns(found: Explanation) -> Iterator[tuple[str, list[str]]]:
    if found.looks is not None:
        looks = found.looks
        yield "looks at", [_most(found, looks.of(each.places)) for each in found.targets]
    if found.occlusion is not None:
        falls = found.occlusion.by_token(len(found.tokens))
        yield "needs", [_most(found, row) for row in falls]
    if found.lens is not None:
        last = len(found.lens.rank)
        layers = found.lens.settled().tolist()
        yield "settled in layer", [str(layer) if layer < last else "" for layer in layers]


def _most(found: Explanation, values: NDArray[np.floating]) -> str:
    """The tokens with the largest numbers, special ones left out, largest first."""
    numbers = np.nan_to_num(values.astype(np.float64))
    numbers[[token.is_special for token in found.tokens]] = 0.0
    best = [place for place in np.argsort(-numbers, kind="stable")[:MOST] if numbers[place] > 0]
    parts = (f"{heat.named(found.tokens[p].text).strip()} {numbers[p]:.2f}" for p in best)
    return ", ".join(parts)


# -- each method ------------------------------------------------------------------------------


def _attention(found: Explanation, alone: bool) -> None:
    assert found.looks is not None
    if alone:
        _map(found, found.looks)
    else:
        values = np.stack([found.looks.of(each.places) for each in found.targets])
        _heat(found, "attention", values, _largest(found, values))


def _rollout(found: Explanation, alone: bool) -> None:
    assert found.looks is not None
    values = np.stack([found.looks.of(each.places, rolled=True) for each in found.targets])
    _heat(found, "rollout", values, _largest(found, values))


def _occlusion(found: Explanation, alone: bool) -> None:
    assert found.occlusion is not None
    values = found.occlusion.by_token(len(found.tokens))
    _heat(found, "occlusion", values, float(np.nanmax(np.abs(_overall(values)), initial=0.0)))


def _lens(found: Explanation, alone: bool) -> None:
    if found.lens is None:
        return
    _blank()
    count = len(found.targets)
    if sys.stdout.isatty():
        count = max(1, min(count, (get_terminal_size().columns - 6) // LENS_CELL))
    columns = ["lens", *(heat.shown(target.text) for target in found.targets[:count])]
    rows = [
        [str(layer), *(_said(found, found.lens, layer, place) for place in range(count))]
        for layer in range(len(found.lens.rank))
    ]
    print_table(columns, rows, title="what each layer would have said, and its probability")
    if count < len(found.targets):
        note(f"tokens not shown: {len(found.targets) - count}; --html or --json has them all")


_SHOWERS: dict[str, Callable[[Explanation, bool], None]] = {
    "attention": _attention,
    "rollout": _rollout,
    "occlusion": _occlusion,
    "lens": _lens,
}


def _said(found: Explanation, lens: Lens, layer: int, place: int) -> str:
    text = found.names[int(lens.top[layer, place, 0])]
    return f"{heat.named(text)} {lens.shares[layer, place, 0]:.2f}"


# -- numbers for tokens -----------------------------------------------------------------------


def _heat(found: Explanation, title: str, values: NDArray[np.floating], largest: float) -> None:
    """Numbers ``[targets, tokens]``: their mean behind the text, or all of them with tabs."""
    _blank()
    if not sys.stdout.isatty():
        _numbers(title, found, [target.text for target in found.targets], values.T)
        return
    overall = _overall(values)
    click.echo(click.style(f"{title}, {_scale(overall)}", dim=True))
    texts = [token.text for token in found.tokens]
    _print(heat.words(texts, overall.tolist(), largest))


def _overall(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean over all that was said, NaN where there is no number."""
    return np.asarray(values.astype(np.float64).sum(axis=0) / len(values), np.float64)


def _largest(found: Explanation, values: NDArray[np.floating]) -> float:
    """The largest mean, special tokens left out: heads with nothing to look at rest on these."""
    overall = _overall(values)
    rest = [v for v, token in zip(overall, found.tokens) if not token.is_special]
    return max(rest, default=0.0) or float(overall.max())


def _scale(values: NDArray[np.float64]) -> str:
    return f"{np.nanmin(values, initial=0.0):.3g} to {np.nanmax(values, initial=0.0):.3g}"


def _map(found: Explanation, looks: Looks) -> None:
    """The attention map itself."""
    texts = [token.text for token in found.tokens]
    _blank()
    if not sys.stdout.isatty():
        _numbers("attention", found, texts, looks.map)
        return
    width = get_terminal_size().columns
    if 2 * len(texts) + 18 > width:
        note(f"a map of {len(texts)} tokens is wider than this terminal; --html shows it")
        values = np.stack([looks.of(each.places) for each in found.targets])
        _heat(found, "attention", values, _largest(found, values))
        return
    click.echo(click.style(f"attention of {_which(looks)}; a row looks at columns", dim=True))
    _print(heat.grid(texts, looks.map.tolist(), _largest(found, looks.map)))


def _which(looks: Looks) -> str:
    layer = "all layers" if looks.layer is None else f"layer {looks.layer}"
    head = "all heads" if looks.head is None else f"head {looks.head}"
    return f"{layer}, {head}"


def _numbers(
    title: str, found: Explanation, columns: Sequence[str], values: NDArray[np.floating]
) -> None:
    """A line for each token, a column for each of `columns`; nothing where there is no number."""
    rows = [
        [heat.shown(token.text), *("" if np.isnan(v) else f"{v:.6g}" for v in row)]
        for token, row in zip(found.tokens, values)
    ]
    print_table([title, *map(heat.shown, columns)], rows)


def _blank() -> None:
    click.echo()


def _print(text: object) -> None:
    from rich.console import Console

    Console(highlight=False).print(text, markup=False, soft_wrap=False)
