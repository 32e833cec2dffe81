"""Engines that `overclock top` can see."""

from __future__ import annotations

from weakref import finalize

from overclock import settings
from overclock.clock.clock import Clock
from overclock.closing import Closing
from overclock.driver import Driver
from overclock.errors import InputError
from overclock.machine.machine import Machine
from overclock.model.model import Model
from overclock.program.program import KvFormat, Program


class Visible(Closing):
    """An engine that can put up a board for others to watch. It costs some microseconds a tick."""

    model: Model
    program: Program
    machine: Machine
    clock: Clock
    driver: Driver
    kv_format: KvFormat | None = None
    _board: finalize[..., Visible] | None = None

    def show(self) -> None:
        """Let `overclock top` see this engine until it is closed.

        Raises InputError if there is no folder where that can be noted.
        """
        if self._board is not None:
            return
        from overclock.trace.publish import publisher

        shown = publisher(
            self.machine,
            self.program,
            self.model.name,
            pages=self.clock.pages.count,
            kv=self.kv_format,
        )
        self._board = finalize(self, shown.close)
        with self.driver.between_ticks():
            self.clock.watch(shown)

    def hide(self) -> None:
        """Be seen no more."""
        if self._board is not None:
            self._board()

    def _show_if(self, live: bool | None) -> None:
        """Show it if that is wanted; None: if the environment says so."""
        if live not in (None, True, False):
            raise InputError(f"live is {live!r}; it must be True, False or None")
        if settings.live() if live is None else live:
            self.show()
