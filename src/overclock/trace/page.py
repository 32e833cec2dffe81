"""A trace as one page: everything inside the file, nothing fetched, readable without a network.

The assets beside this module are put together as they are; there is no build step. All names in a
trace are untrusted: the data is JSON in which nothing can end its element, the page makes text
nodes of it, and its policy lets only the script run whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = (
    "format",
    "dom",
    "colors",
    "run",
    "headline",
    "timeline",
    "timeline_drawing",
    "timeline_steering",
    "breakdown",
    "roofline",
    "ticks",
    "layers",
    "memory",
    "tables",
    "comparison",
    "main",
)
"""One script after another, in one scope; each uses what is defined above it when it is read."""

PLACE = re.compile("<!--([a-z ]+)-->")

ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def page(document: Mapping[str, Any], other: Mapping[str, Any] | None = None) -> str:
    """The page of a trace; with `other`, of two: `document` is A and comes before, `other` is B."""
    style = _asset("page.css")
    script = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    parts = {
        "style": style,
        "style hash": _hash(style),
        "script": script,
        "script hash": _hash(script),
        "document": _embedded(document),
        "other": "" if other is None else _embedded(other),
    }
    return PLACE.sub(lambda place: parts[place[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (files("overclock.trace") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _embedded(document: Mapping[str, Any]) -> str:
    """JSON in ASCII that no parser of HTML takes for markup."""
    text = json.dumps(_shown(document), allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda sign: ESCAPED[sign[0]], text)


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """Without each tick's busy time by instruction, which is half of a trace and drawn nowhere."""
    ticks = [{**tick, "busy_ns": []} for tick in document["ticks"]]
    return {**document, "ticks": ticks}
