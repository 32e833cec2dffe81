"""What every machine can do: hold a program and run ragged batches through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from overclock.machine.pages import PageNumbers
from overclock.model.model import Tensor
from overclock.program.program import KvFormat as KvFormat
from overclock.program.program import Program

if TYPE_CHECKING:
    from overclock.model.adapter import Adapter


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens of S sequences laid end to end, T in all, with no padding.

    There is no prompt mode and no generation mode: a sequence brings any number of tokens.

    token_ids: ``int32[T]``
    starts: ``int32[S + 1]``; sequence s owns rows starts[s] to starts[s + 1]
    contexts: ``int32[S]``; tokens of the sequence that are already in its KV pages, so that the
        row ``starts[s] + i`` has position ``contexts[s] + i``
    pages: ``int32[S, most]``; the KV pages of each sequence in order, the rest of a row is ignored
    output_rows: ``int32[L]``; rows that outputs over selected rows are wanted for
    token_types: ``int32[T]`` or None for all zero
    output: which of the program's outputs to compute
    adapters: ``int32[S]``; the adapter of each sequence, counted from 1 as `set_adapters` got them,
        0 for none; None for none at all
    """

    token_ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    contexts: NDArray[np.int32]
    pages: NDArray[np.int32]
    output_rows: NDArray[np.int32]
    output: str
    token_types: NDArray[np.int32] | None = None
    adapters: NDArray[np.int32] | None = None


class Counters(NamedTuple):
    """What a machine has spent since the counters were last read. Times are wall time in seconds.

    seconds: ``f64[instructions]``; runs: batches run
    whole: from the call of each run to its return, of which
    prepare: checking the batch and making room for it; turn: waking the threads, and the angles of
    all positions; finish: from the last instruction until all threads are back
    call: of the caller around `whole`, turning arrays into the machine's own
    busy: ``f64[threads, instructions]``, time of each thread in kernels; None unless it is watched

    `prepare`, `turn`, `seconds` and `finish` add up to `whole` on the native machine. Others leave
    them, `call` and `busy` out.
    """

    seconds: NDArray[np.float64]
    runs: int
    whole: float = 0.0
    prepare: float = 0.0
    turn: float = 0.0
    finish: float = 0.0
    call: float = 0.0
    busy: NDArray[np.float64] | None = None


class Machine(Protocol):
    """Runs one program."""

    def load(self, program: Program, weights: Mapping[str, Tensor], *, pages: int) -> None:
        """Take a verified program and its weights; make room for `pages` KV pages a layer.

        Raises MachineError if memory does not suffice or an instruction has no kernel.
        """

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """One pass over the batch; the wanted output as ``f32[rows, columns]``.

        The array is the caller's to read and write for as long as it is held; a machine may use
        the memory of one that nobody holds any more for a later run.

        Raises MachineError if the batch does not fit the program (ids, positions, pages).
        """

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Take adapters for the loaded program in the place of those that there were.

        They are numbered from 1 on in `Batch.adapters`. Not to be called while a run is under way.

        Raises MachineError if the program was not compiled for what one of them changes.
        """

    @property
    def page_bytes(self) -> int:
        """Bytes of one KV page over all layers; 0 for a program that keeps no KV.

        What the bytes mean is the machine's own: only one of the same kind, with the same program
        and KV format, can take them back.
        """

    def copy_pages(self, sources: PageNumbers, targets: PageNumbers) -> None:
        """KV page sources[i] to targets[i], whole and in order.

        Raises MachineError for a page that there is not, or if they are not as many.
        """

    def read_pages(self, pages: PageNumbers) -> NDArray[np.uint8]:
        """The bytes of KV pages, ``u8[n, page_bytes]``; MachineError for one there is not."""

    def write_pages(self, pages: PageNumbers, data: NDArray[np.uint8]) -> None:
        """``data u8[n, page_bytes]``, as `read_pages` gave it, becomes what KV pages hold.

        Raises MachineError for a page that there is not, or bytes of another shape.
        """

    def tapped(
        self, batch: Batch, taps: Sequence[str]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """As `run`, and what each of the f32 activations `taps` held once it was written.

        Buffers that the output does not need are left out of the program's run and cannot be
        tapped. Raises MachineError as `run` does, and for a buffer that cannot be tapped.
        """

    def watch(self, on: bool) -> None:
        """Whether the counters tell each thread's time in kernels, if the machine has threads."""

    def counters(self) -> Counters:
        """What each instruction cost since the last call, which also sets them to zero."""
