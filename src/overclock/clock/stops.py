"""Where an answer ends: text that is shown never contains a part of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from overclock.errors import InputError

MOST_STOPS = 64
"""Each piece of text is searched for every one of them."""


def check_stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """The stop strings as a tuple. Raises InputError for an empty one or one that is no text."""
    if stop is None:
        return ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MOST_STOPS:
        raise InputError(f"there are {len(stops)} stop strings; at most {MOST_STOPS} are possible")
    for each in stops:
        if not isinstance(each, str) or not each:
            raise InputError(f"the stop string {each!r} must be text and not empty")
    return stops


class StopWatch:
    """Passes text on until a stop string appears, however its pieces are cut.

    What could be the beginning of a stop string is held back until it is clear:

        stop "END":   push("the E")   -> "the "     held: "E"
                      push("ND")      -> ""         hit
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """The text that may be shown now; after a hit, what was before the stop string."""
        if not self._stops or not text:
            return text
        text = self._held + text
        end = min((at for at in map(text.find, self._stops) if at >= 0), default=None)
        if end is not None:
            self.hit = True
            self._held = ""
            return text[:end]
        cut = len(text) - self._open(text)
        self._held = text[cut:]
        return text[:cut]

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held

    def _open(self, text: str) -> int:
        """How many characters at the end of `text` begin a stop string."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for size in range(longest, 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
