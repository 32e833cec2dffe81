"""An explanation as one page that needs nothing else: no network, no other file."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from overclock.explain.explanation import Explanation
from overclock.explain.record import maps_record, record


def page(found: Explanation) -> bytes:
    """The page, in UTF-8."""
    html = _asset("page.html")
    for name in ("page.css", "page.js"):
        html = html.replace(f"/*{name}*/", _asset(name))
    # The data last: what a token looks like must not be taken for one of the places above.
    return html.replace("/*data*/", _embedded(found)).encode()


def _embedded(found: Explanation) -> str:
    """JSON that no token can break out of: it holds no character that HTML has a meaning for."""
    text = json.dumps({**record(found), "maps": maps_record(found)}, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


@cache
def _asset(name: str) -> str:
    return resources.files("overclock.explain").joinpath("assets", name).read_text("utf-8")
