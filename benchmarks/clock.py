"""What the clock itself costs: ticks on the virtual machine, whose own time is left out.

    python benchmarks/clock.py --model MODEL [--streams 8,32,128,512] [--ticks 200]

Prints, for each number of streams, the microseconds of Python and sampling in a tick, by stage, and
for each sequence. The clock's own work does not depend on what the machine computes.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from overclock.clock.clock import Clock
from overclock.clock.request import Generate
from overclock.clock.settings import ClockSettings
from overclock.machine.virtual import Roofline, VirtualMachine
from overclock.model.load import load
from overclock.model.model import Model
from overclock.program.compiler import compile
from overclock.program.program import PAGE_TOKENS, Program
from overclock.trace.record import TickRecord

PROMPT = 64
PACE = Roofline(bytes_per_second=20e9, operations_per_second=3e11, int8_operations_per_second=1e12)


def ticks(model: Model, program: Program, streams: int, count: int) -> list[TickRecord]:
    """Records of `count` ticks in which `streams` requests generate."""
    longest = PROMPT + count + 40
    pages = streams * -(-longest // PAGE_TOKENS)
    machine = VirtualMachine(PACE)
    machine.load(program, {}, pages=pages)
    settings = ClockSettings(streams=streams, queue=streams, stretch=None, tick_tokens=8192)
    clock = Clock(machine, program, pages, settings=settings)
    for number in range(streams):
        ids = [(13 + 101 * number + 7919 * place) % program.vocabulary for place in range(PROMPT)]
        stream = model.tokenizer.stream(skip_special=True)
        clock.submit(
            Generate(
                token_ids=ids,
                max_tokens=count + 32,
                detokenizer=stream,
                stream=True,
                speculation="off",
            )
        )
    while clock.roster.waiting or clock.roster.prompting or not clock.roster.generating:
        clock.tick()
    records: list[TickRecord] = []
    while len(records) < count:
        clock.tick()
        assert clock.last is not None
        records.append(clock.last)
    return records


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--streams", default="8,32,128,512")
    parser.add_argument("--ticks", type=int, default=200)
    arguments = parser.parse_args()
    model = load(arguments.model)
    program = compile(model)
    print("streams  fetch  decode  write back  all, µs  a sequence, µs")
    for streams in map(int, arguments.streams.split(",")):
        records = ticks(model, program, streams, arguments.ticks)
        stages = [
            1e6 * statistics.median(getattr(record, stage) for record in records)
            for stage in ("fetch", "decode", "write_back")
        ]
        shown = "".join(f"{value:10,.0f}" for value in stages)
        print(f"{streams:7}{shown}{sum(stages):10,.0f}{sum(stages) / streams:10.2f}")


if __name__ == "__main__":
    main()
