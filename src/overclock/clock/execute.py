"""Third stage of a tick: one run of the machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from overclock.clock.draft_model import DraftModel
from overclock.clock.sequence import Sequence
from overclock.clock.work import Work
from overclock.errors import MachineError
from overclock.machine.machine import Batch, Machine


class Execute:
    """Runs a tick's batch.

    If the machine refuses it, each request runs by itself, so that one that cannot run fails alone.
    What a failed run had written to KV pages is written again, with the same values.
    """

    def __init__(self, machine: Machine, draft: DraftModel | None = None) -> None:
        self._machine = machine
        self._draft = draft

    def __call__(self, work: Work) -> tuple[NDArray[np.float32], dict[Sequence, MachineError]]:
        """The wanted rows, ``f32[rows, columns]``, and who failed."""
        try:
            rows = self._machine.run(work.batch)
        except MachineError as error:
            return self._one_by_one(work, error)
        if self._draft is not None:
            self._draft.follow(work.batch)
        return rows, {}

    def _one_by_one(
        self, work: Work, error: MachineError
    ) -> tuple[NDArray[np.float32], dict[Sequence, MachineError]]:
        spans = work.spans()
        total = sum(count for _, _, count in spans)
        if len(spans) == 1:
            return np.zeros((total, 0), np.float32), {spans[0][0]: error}
        failed: dict[Sequence, MachineError] = {}
        blocks: list[tuple[int, NDArray[np.float32]]] = []
        for index, (sequence, first, _) in enumerate(spans):
            try:
                blocks.append((first, self._machine.run(_alone(work.batch, index)).copy()))
            except MachineError as reason:
                failed[sequence] = reason
        columns = max((rows.shape[1] for _, rows in blocks), default=0)
        outputs = np.zeros((total, columns), np.float32)
        for first, rows in blocks:
            outputs[first : first + len(rows)] = rows
        return outputs, failed


def _alone(batch: Batch, index: int) -> Batch:
    """One sequence of a batch as a batch of its own."""
    start, stop = int(batch.starts[index]), int(batch.starts[index + 1])
    mine = (batch.output_rows >= start) & (batch.output_rows < stop)
    return replace(
        batch,
        token_ids=batch.token_ids[start:stop],
        starts=np.array([0, stop - start], np.int32),
        contexts=batch.contexts[index : index + 1],
        pages=batch.pages[index : index + 1],
        output_rows=batch.output_rows[mine] - np.int32(start),
        adapters=None if batch.adapters is None else batch.adapters[index : index + 1],
    )
