"""Numbers as colours behind words: heat maps on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

WARM = ((64, 44, 28), (232, 98, 0))
COLD = ((28, 44, 64), (0, 120, 220))
"""From the least to the most of what is shown, for numbers above and below zero."""

FAINT = 0.08
"""A smaller share of the largest number has no colour."""


def shown(text: str) -> str:
    """A token's text in one line, with nothing in it that a terminal would obey."""
    spelled = text.replace("\n", "⏎").replace("\t", "⇥")
    return "".join(sign if sign.isprintable() else "�" for sign in spelled) or "�"


def named(text: str) -> str:
    """The same of a token that is spoken of, where white space would not be seen."""
    return shown(text) if text.strip() else "␣" if text.strip("\n") else shown(text)


def shade(share: float) -> str:
    """The style of a number that is this share of the largest, −1 to 1."""
    if isnan(share) or abs(share) < FAINT:
        return ""
    least, most = WARM if share > 0 else COLD
    mixed = (round(a + min(abs(share), 1.0) * (b - a)) for a, b in zip(least, most))
    return "white on #{:02x}{:02x}{:02x}".format(*mixed)


def words(texts: Sequence[str], values: Sequence[float], largest: float) -> Text:
    """Texts one after another, each with its number's colour behind it."""
    from rich.text import Text

    line = Text()
    for text, value in zip(texts, values):
        line.append(shown(text), shade(value / largest if largest else 0.0))
        if "\n" in text:
            line.append("\n")
    return line


def grid(texts: Sequence[str], rows: Sequence[Sequence[float]], largest: float) -> Text:
    """A square of coloured cells, a row for each text; columns are counted above."""
    from rich.text import Text

    labels = [f"{number:>4} {shown(text)[:12]:12} " for number, text in enumerate(texts)]
    square = Text(" " * len(labels[0]) + "".join(f"{n % 100:2}" for n in range(len(texts))) + "\n")
    for label, row in zip(labels, rows):
        square.append(label, "dim")
        for value in row:
            square.append("  ", shade(value / largest if largest else 0.0))
        square.append("\n")
    return square
