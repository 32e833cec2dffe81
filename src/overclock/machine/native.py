"""The native machine: the C++ core behind the machine protocol. Only this file imports it."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from overclock import _native
from overclock.errors import MachineError
from overclock.machine.adapters import check_adapters
from overclock.machine.batch import BatchRules
from overclock.machine.computer import usable_cores
from overclock.machine.machine import Batch, Counters
from overclock.machine.pages import PageNumbers, PageRules
from overclock.machine.taps import tap_writers
from overclock.machine.weights import weight_of
from overclock.model.model import Tensor
from overclock.program.isa import OPTIONAL_ATTRIBUTES, Op
from overclock.program.plan import plan
from overclock.program.program import Buffer, Instruction, Kind, KvFormat, Operand, Program
from overclock.program.weights import is_quantized

if TYPE_CHECKING:
    from overclock.model.adapter import Adapter

INPUTS = ("token_ids", "positions", "token_types")

instruction_sets = _native.instruction_sets
probe_peak_f32 = _native.probe_peak_f32
probe_peak_int8 = _native.probe_peak_int8
probe_read_bandwidth = _native.probe_read_bandwidth
probe_timer = _native.probe_timer
tiers = _native.tiers


class Sampler(_native.Sampler):
    """Chooses the tokens of one request; `clock.sampling.sampler` makes it from its rules.

    A sampler belongs to one thread at a time.
    """

    def choose_one(
        self, logits: NDArray[np.float32], mask: NDArray[np.uint32] | None = None
    ) -> int:
        """The next token for its logits ``f32[V]``, which may be changed.

        mask: ``u32[(V + 31) // 32]``, bit t % 32 of word t // 32 set if token t is allowed

        Raises MachineError, and has then chosen nothing, if the logits are not finite numbers,
        allow no token, or have another shape.
        """
        try:
            return super().choose_one(logits, mask)
        except (TypeError, ValueError) as error:
            raise MachineError(f"no token can be chosen: {error}") from error

    # take_logprobs() has for each token chosen since its last call the logprob of the model, before
    # any rule, and the likeliest tokens with theirs. count is the number of tokens chosen.


def choose(
    samplers: Sequence[Sampler],
    logits: NDArray[np.float32],
    first_rows: NDArray[np.int32],
    drafts: Sequence[Sequence[int]],
    machine: NativeMachine | None = None,
) -> tuple[list[list[int]], list[str | None]]:
    """The next tokens of many requests.

    logits: ``f32[L, V]``, may be changed; first_rows: ``i32[n]``, where each sampler begins; it
    goes on with the next row as long as it chooses what its draft has there, so the tokens are
    those it would choose one by one. The machine's threads share the work, if one is given.

    Returns the tokens of each sampler, and why it has no further one if its logits are not finite
    numbers or allow no token. Raises MachineError if two samplers have the same row, or arrays or
    vocabularies do not fit; nothing has been chosen then.
    """
    core = None if machine is None else machine._core
    try:
        return _native.choose(samplers, logits, first_rows, drafts, core)
    except (TypeError, ValueError) as error:
        raise MachineError(f"no tokens can be chosen: {error}") from error


def logprobs(
    rows: NDArray[np.float32], targets: NDArray[np.int32], top: int = 0
) -> list[tuple[float, list[tuple[int, float]]]]:
    """The logprob of each row's target, and the `top` likeliest tokens with theirs, best first.

    rows: ``f32[n, V]``; targets: ``i32[n]``

    Raises MachineError if logits are not finite numbers, or a target is not a token.
    """
    try:
        return _native.logprobs(rows, targets, top)
    except (TypeError, ValueError) as error:
        raise MachineError(f"logprobs cannot be computed: {error}") from error


class NativeMachine:
    """Runs a program on this computer's cores.

    Weights are repacked once, in the bits of their own format; pages of a mapped file are given
    back as soon as they are packed, so that a model is in memory once.
    """

    def __init__(
        self, threads: int | None = None, kv: KvFormat = "f16", *, tier: str | None = None
    ) -> None:
        """Take `threads` threads (None: one for each core that may be used) and a KV format.

        tier: the instruction-set tier to use, one of `tiers()`; None for the best.

        Raises MachineError if the processor has no such tier.
        """
        self._options = (usable_cores() if threads is None else threads, kv, tier or "")
        self._is_watched = False
        self._core = self._new_core()
        self._program: Program | None = None
        self._called = 0.0  # seconds in calls of the core's run, since the counters were read
        self._pages = PageRules()

    @property
    def threads(self) -> int:
        """Threads that run each instruction."""
        return self._core.threads

    @property
    def tier(self) -> str:
        """The instruction-set tier of the kernels."""
        return self._core.tier

    @property
    def weight_bytes(self) -> int:
        """Bytes of all packed weights."""
        return self._core.weight_bytes

    def load(self, program: Program, weights: Mapping[str, Tensor], *, pages: int) -> None:
        """Take a verified program and its weights; make room for `pages` KV pages a layer.

        KV pages are reserved, and become real memory when they are first written.

        Raises MachineError if memory does not suffice or a weight does not fit the program.
        """
        if self._program is not None:
            self._core = self._new_core()
        try:
            loader = _Loader(self._core, program, weights, pages)
            self._outputs = loader.load()
            self._ids = loader.ids
        except ValueError as error:
            raise MachineError(f"{program.name} cannot be loaded: {error}") from error
        except MemoryError as error:
            raise MachineError(
                f"there is not enough memory for {program.name} with {pages} KV pages; "
                "take less kv_memory, a smaller context or a smaller model"
            ) from error
        self._program = program
        self._rules = BatchRules.of(program, pages)
        self._pages = PageRules.of(program, pages, self._core.page_bytes)

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Take adapters in the place of those that there were; MachineError as in `Machine`."""
        program = check_adapters(self._program, adapters)
        sites = {site: number for number, site in enumerate(program.sites)}
        try:
            self._core.set_adapters(
                [
                    [(sites[site], each.scale, each.a, each.b) for site, each in one.sites.items()]
                    for one in adapters
                ]
            )
        except ValueError as error:
            raise MachineError(f"the adapters do not fit {program.name}: {error}") from error
        except MemoryError as error:
            raise MachineError(
                f"there is not enough memory for {len(adapters)} adapters"
            ) from error
        self._rules = replace(self._rules, adapters=len(adapters))

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """One pass over the batch; the wanted output as ``f32[rows, columns]``.

        Raises MachineError if nothing is loaded or the batch does not fit the program.
        """
        if self._program is None:
            raise MachineError("the machine has no program; call load() first")
        try:
            began = perf_counter()
            result = self._core.run(
                batch.token_ids,
                batch.starts,
                batch.contexts,
                batch.pages,
                batch.output_rows,
                batch.token_types,
                batch.adapters,
                self._outputs[batch.output],
            )
            self._called += perf_counter() - began
            return result
        except (KeyError, TypeError, ValueError) as error:
            # The core refuses what would leave its memory, in few words; the rules that all
            # machines share cost too much for every token, but say it better.
            self._rules.check(batch)
            raise MachineError(f"the batch does not fit {self._program.name}: {error}") from error
        except MemoryError as error:
            raise MachineError(
                f"there is not enough memory for a batch of {len(batch.token_ids)} tokens; "
                "give it fewer"
            ) from error

    def tapped(
        self, batch: Batch, taps: Sequence[str]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """As `run`, and what f32 activations held; MachineError as in `Machine`."""
        if self._program is None:
            raise MachineError("the machine has no program; call load() first")
        self._rules.check(batch)
        writers = tap_writers(self._program, batch.output, taps)
        try:
            result, values = self._core.run_tapped(
                batch.token_ids,
                batch.starts,
                batch.contexts,
                batch.pages,
                batch.output_rows,
                batch.token_types,
                batch.adapters,
                self._outputs[batch.output],
                [(writers[name], self._ids[name]) for name in taps],
            )
        except ValueError as error:
            raise MachineError(f"the batch does not fit {self._program.name}: {error}") from error
        except MemoryError as error:
            raise MachineError(
                f"there is not enough memory for {len(taps)} taps of {len(batch.token_ids)} "
                "tokens; name fewer of either"
            ) from error
        return result, dict(zip(taps, values, strict=True))

    @property
    def page_bytes(self) -> int:
        """Bytes of one KV page over all layers, which lie together; 0 without KV."""
        return self._pages.page_bytes

    def copy_pages(self, sources: PageNumbers, targets: PageNumbers) -> None:
        """KV page sources[i] to targets[i], whole and in order; MachineError as in `Machine`."""
        pairs = np.array(list(self._pages.pairs(sources, targets)), np.int32).reshape(-1, 2)
        self._core.copy_pages(*np.ascontiguousarray(pairs.T))

    def read_pages(self, pages: PageNumbers) -> NDArray[np.uint8]:
        """The bytes of KV pages, ``u8[n, page_bytes]``; MachineError for one there is not."""
        return self._core.read_pages(self._pages.numbers(pages))

    def write_pages(self, pages: PageNumbers, data: NDArray[np.uint8]) -> None:
        """``data u8[n, page_bytes]`` becomes what KV pages hold; MachineError as in `Machine`."""
        self._pages.check_data(len(pages), data)
        self._core.write_pages(self._pages.numbers(pages), np.ascontiguousarray(data))

    def watch(self, on: bool) -> None:
        """Whether the counters tell each thread's time in kernels: one look at the timer more."""
        self._is_watched = on
        self._core.watch(on)

    def counters(self) -> Counters:
        """What each instruction cost since the last call, which also sets them to zero."""
        runs, whole, prepare, turn, finish, times = self._core.take_account()
        busy = times[1:] if len(times) > 1 else None
        call, self._called = max(0.0, self._called - whole), 0.0
        return Counters(times[0], runs, whole, prepare, turn, finish, call, busy)

    def _new_core(self) -> _native.Machine:
        threads, kv, tier = self._options
        try:
            core = _native.Machine(threads, kv, tier)
        except ValueError as error:
            raise MachineError(f"{error}; the tiers are {', '.join(tiers())}") from error
        core.watch(self._is_watched)
        return core


class _Loader:
    """Hands one program to a fresh core, buffer by buffer and instruction by instruction."""

    def __init__(
        self,
        core: _native.Machine,
        program: Program,
        weights: Mapping[str, Tensor],
        pages: int,
    ) -> None:
        self._core = core
        self._program = program
        self._weights = weights
        self._pages = pages
        self._plan = plan(program)
        self._tables = _only_looked_up(program)
        self.ids: dict[str, int] = {}  # the core's index of each buffer

    def load(self) -> dict[str, int]:
        """Load everything; the core's index of each output."""
        for _ in self._plan.slots:
            self._core.add_slot()
        for buffer in self._program.buffers.values():
            if buffer.kind is not Kind.ACTIVATION or buffer.name in self._plan.slot_of:
                self.ids[buffer.name] = self._add_buffer(buffer)
        for instruction in self._program.instructions:
            self._add_instruction(instruction)
        self._core.set_context(self._program.context)
        return {
            name: self._core.add_output(
                self.ids[operand.buffer], list(self._program.needed_for(name))
            )
            for name, operand in self._program.outputs.items()
        }

    def _add_buffer(self, buffer: Buffer) -> int:
        kind, index = self._place(buffer)
        rows = "" if buffer.rows is None else buffer.rows.value
        return self._core.add_buffer(kind, rows, buffer.element.value, buffer.columns, index)

    def _place(self, buffer: Buffer) -> tuple[str, int]:
        """The core's kind of memory for a buffer, and its index there."""
        if buffer.kind is Kind.INPUT:
            return "input", INPUTS.index(buffer.name)
        if buffer.kind is Kind.ACTIVATION:
            return "activation", self._plan.slot_of[buffer.name]
        if buffer.kind is Kind.CACHE:
            heads = buffer.shape[0]
            return "cache", self._core.add_cache(heads, buffer.columns // heads, self._pages)
        if buffer.kind is Kind.CONSTANT:
            return "vector", self._core.add_vector(list(self._program.constants[buffer.name]))
        tensor = weight_of(buffer, self._weights)
        if len(tensor.shape) == 1:
            return "vector", self._core.add_vector(tensor.dequantize().tolist())
        return "weight", self._add_matrix(buffer, tensor)

    def _add_matrix(self, buffer: Buffer, tensor: Tensor) -> int:
        rows, columns = tensor.shape
        held, data = buffer.format.value, tensor.data
        if buffer.name in self._tables and not is_quantized(buffer):
            return self._core.add_table(held, rows, columns, data)
        return self._core.add_weight(
            tensor.format.value, rows, columns, data, _is_mapped(data), held
        )

    def _add_instruction(self, instruction: Instruction) -> None:
        operands = {role: self._operands(list_) for role, list_ in instruction.inputs.items()}
        for role, list_ in instruction.outputs.items():
            operands["quantized" if role == "q" else role] = self._operands(list_)
        attributes = {
            name: value
            for name, value in instruction.attributes.items()
            if value != OPTIONAL_ATTRIBUTES.get(name)
        }
        if instruction.op is Op.ADAPT:
            attributes["site"] = list(self._program.sites).index(str(instruction.attribute("site")))
        frequencies = [
            value
            for operand in instruction.inputs.get("frequencies", ())
            for value in self._program.constants[operand.buffer]
        ]
        self._core.add_instruction(instruction.op.value, operands, attributes, frequencies)

    def _operands(self, operands: tuple[Operand, ...]) -> list[tuple[int, int, int]]:
        return [
            (self.ids[operand.buffer], operand.start, self._program.columns(operand))
            for operand in operands
        ]


def _only_looked_up(program: Program) -> frozenset[str]:
    """The weights that no instruction but embed reads."""
    tables: set[str] = set()
    others: set[str] = set()
    for instruction in program.instructions:
        names = tables if instruction.op is Op.EMBED else others
        names.update(operand.buffer for operand in instruction.reads())
    return frozenset(tables - others)


def _is_mapped(data: NDArray[np.uint8]) -> bool:
    """Whether the bytes are those of a mapped file, which can be read again at any time."""
    owner: object = data
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return isinstance(owner, mmap.mmap)
