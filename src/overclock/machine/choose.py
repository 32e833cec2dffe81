"""A machine by its name."""

from __future__ import annotations

from typing import Literal, get_args

from overclock.errors import InputError, MachineError
from overclock.machine.machine import Machine
from overclock.program.program import KvFormat

MachineName = Literal["native", "reference"]

MOST_THREADS = 1024


def make(name: MachineName, threads: int | None = None, kv: KvFormat = "f16") -> Machine:
    """A machine with nothing loaded. `threads` None: all cores that may be used.

    Raises InputError for a name, number of threads or KV format that does not exist, MachineError
    if the native machine is not built.
    """
    if threads is not None and (type(threads) is not int or not 1 <= threads <= MOST_THREADS):
        raise InputError(
            f"threads is {threads!r}; it must be a whole number of 1 to {MOST_THREADS}"
        )
    if kv not in get_args(KvFormat):
        raise InputError(f"kv is {kv!r}; it must be one of {', '.join(get_args(KvFormat))}")
    if name == "reference":
        from overclock.machine.reference import ReferenceMachine

        return ReferenceMachine(kv=kv)
    if name != "native":
        raise InputError(f"there is no machine {name!r}; take one of native, reference")
    try:
        from overclock.machine.native import NativeMachine
    except ImportError as error:
        raise MachineError(
            f"the native machine is not built ({error}); install overclock with pip and a C++ "
            "compiler"
        ) from error
    return NativeMachine(threads, kv=kv)
