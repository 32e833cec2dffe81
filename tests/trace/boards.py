"""Boards for tests: an engine that nobody runs, and figures that show a torn reading."""

from __future__ import annotations

import os

from overclock.trace.board import Engine, Figures, namespace, process_start

OPCODES = ("embed", "matmul", "attend")


def engine(**changes: object) -> Engine:
    """An engine of this process."""
    made = Engine(
        pid=os.getpid(),
        born=process_start("self") or 0,
        namespace=namespace(),
        opened=1.7e9,
        model="/models/tiny",
        kind="llm",
        machine="native",
        tier="avx2",
        kv="f16",
        threads=2,
        pages=100,
        page_bytes=1000,
        weight_bytes=50_000,
        row_operations=7_000,
        exact=False,
        opcodes=OPCODES,
    )
    return made._replace(**changes)  # type: ignore[arg-type]


def figures(number: int) -> Figures:
    """Every figure is `number`."""
    numbers = [type(each)(number) for each in Figures()[:-1]]
    return Figures._make([*numbers, (float(number),) * len(OPCODES)])
