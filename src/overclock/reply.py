"""One request on its way, as its reader sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from overclock.clock.completion import Completion, Piece
from overclock.clock.request import Encoded, Generate, Request
from overclock.clock.roster import Event
from overclock.clock.sequence import Ticket
from overclock.driver import Driver, Mailbox


class Reply:
    """Iterate it for pieces, or wait for the result. It goes on whether or not it is read."""

    def __init__(
        self, driver: Driver, request: Generate, owner: object, *, alone: bool = False
    ) -> None:
        """Hand `request` in.

        owner: is kept alive as long as someone may read
        alone: it is read at once, and runs in the reader's thread
        """
        self._owner = owner
        self._driver = driver
        self._mail = Mailbox()
        self._completion: Completion | None = None
        self._ticket = driver.submit(request, self._mail.deliver, alone=alone)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces that are still to come; the last one carries the whole.

        Raises what made the request fail, if it did.
        """
        while self._completion is None:
            piece = piece_of(self._driver.wait(self._mail))
            self._completion = piece.completion
            piece.check()
            yield piece

    def result(self) -> Completion:
        """The whole answer, when it is there. Raises what made the request fail, if it did."""
        try:
            for _ in self:
                pass
        finally:
            if self._completion is None:
                self.cancel()
        assert self._completion is not None
        return self._completion

    def cancel(self) -> None:
        """End it as far as it came; its finish reason will be `cancelled`."""
        self._driver.cancel(self._ticket)


def piece_of(event: Event) -> Piece:
    """The piece that an event of a `Generate` brings."""
    assert isinstance(event.content, Piece)
    return event.content


def encoded(driver: Driver, requests: Sequence[Request]) -> list[NDArray[np.float32]]:
    """What the texts of requests are encoded to, in order; raises what made the first one fail."""
    mail = Mailbox(len(requests))
    places: dict[Ticket, int] = {}
    found: list[NDArray[np.float32] | None] = [None] * len(requests)
    try:
        for place, request in enumerate(requests):
            places[driver.submit(request, mail.deliver, alone=True)] = place
        while places:
            event = driver.wait(mail)
            assert isinstance(event.content, Encoded)
            place = places.pop(event.ticket)
            if event.content.error is not None:
                raise event.content.error
            found[place] = event.content.values
    finally:
        for ticket in places:
            driver.cancel(ticket)
    return [values for values in found if values is not None]
