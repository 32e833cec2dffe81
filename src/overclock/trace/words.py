"""Words from files of others, made fit to be shown."""

from __future__ import annotations

INSTEAD = "\N{REPLACEMENT CHARACTER}"


def printable(text: str, most: int = 200) -> str:
    """`text` with nothing that could steer a terminal, and no longer than `most` characters."""
    shown = "".join(each if each.isprintable() else INSTEAD for each in text[: most + 1])
    return shown if len(text) <= most else f"{shown[: most - 1]}…"
