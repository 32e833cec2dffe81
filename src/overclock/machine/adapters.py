"""What adapters must be for a program: the same rules, and the same words, for every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from overclock.errors import MachineError
from overclock.program.program import Program

if TYPE_CHECKING:
    from overclock.model.adapter import Adapter


def check_adapters(program: Program | None, adapters: Sequence[Adapter]) -> Program:
    """The program, if every adapter changes only what it lets adapters change.

    Raises MachineError if there is no program, or names the adapter and the site.
    """
    if program is None:
        raise MachineError("the machine has no program; call load() first")
    for adapter in adapters:
        for site, change in adapter.sites.items():
            if site not in program.sites:
                raise MachineError(
                    f"the adapter {adapter.name} changes {site}, which {program.name} was not "
                    "compiled for; compile it with the adapter's sites"
                )
            inner, outer = program.sites[site]
            if change.shape != (outer, inner) or change.b.shape[1] != change.rank:
                raise MachineError(
                    f"the adapter {adapter.name} has matrices of {list(change.a.shape)} and "
                    f"{list(change.b.shape)} for {site}, which is {[outer, inner]}"
                )
    return program


def ranks(program: Program, adapters: Sequence[Adapter]) -> Mapping[str, tuple[int, ...]]:
    """Site → the rank of each adapter there, 0 where it changes nothing."""
    return {
        site: tuple(each.sites[site].rank if site in each.sites else 0 for each in adapters)
        for site in program.sites
    }
