"""The C++ core as Python sees it; see cpp/bindings/module.cpp."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Operands = dict[str, list[tuple[int, int, int]]]

Account = tuple[int, float, float, float, float, NDArray[np.float64]]

class Machine:
    def __init__(self, threads: int, kv: str, tier: str = "") -> None: ...
    def add_weight(
        self,
        source_format: str,
        rows: int,
        columns: int,
        data: NDArray[np.uint8],
        mapped: bool,
        format: str,
    ) -> int: ...
    def add_table(self, format: str, rows: int, columns: int, data: NDArray[np.uint8]) -> int: ...
    def add_vector(self, values: list[float]) -> int: ...
    def add_cache(self, heads: int, head_dim: int, pages: int) -> int: ...
    def set_context(self, tokens: int) -> None: ...
    def add_slot(self) -> int: ...
    def add_buffer(self, kind: str, rows: str, element: str, columns: int, index: int) -> int: ...
    def add_instruction(
        self,
        op: str,
        operands: Operands,
        attributes: dict[str, object],
        frequencies: list[float],
    ) -> None: ...
    def add_output(self, buffer: int, instructions: list[int]) -> int: ...
    def run(
        self,
        token_ids: NDArray[np.int32],
        starts: NDArray[np.int32],
        contexts: NDArray[np.int32],
        pages: NDArray[np.int32],
        output_rows: NDArray[np.int32],
        token_types: NDArray[np.int32] | None,
        adapters: NDArray[np.int32] | None,
        output: int,
    ) -> NDArray[np.float32]: ...
    def run_tapped(
        self,
        token_ids: NDArray[np.int32],
        starts: NDArray[np.int32],
        contexts: NDArray[np.int32],
        pages: NDArray[np.int32],
        output_rows: NDArray[np.int32],
        token_types: NDArray[np.int32] | None,
        adapters: NDArray[np.int32] | None,
        output: int,
        taps: list[tuple[int, int]],
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]: ...
    def set_adapters(
        self, adapters: list[list[tuple[int, float, NDArray[np.float32], NDArray[np.float32]]]]
    ) -> None: ...
    def copy_pages(self, sources: NDArray[np.int32], targets: NDArray[np.int32]) -> None: ...
    def read_pages(self, pages: NDArray[np.int32]) -> NDArray[np.uint8]: ...
    def write_pages(self, pages: NDArray[np.int32], data: NDArray[np.uint8]) -> None: ...
    @property
    def page_bytes(self) -> int: ...
    def watch(self, threads: bool) -> None: ...
    def take_account(self) -> Account: ...
    def weight_row(self, weight: int, row: int) -> NDArray[np.float32]: ...
    @property
    def tier(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...

Logprobs = list[tuple[float, list[tuple[int, float]]]]

class Sampler:
    def __init__(
        self,
        vocabulary: int,
        prompt: list[int],
        *,
        temperature: float,
        top_k: int | None,
        typical_p: float,
        top_p: float,
        min_p: float,
        repetition_penalty: float,
        presence_penalty: float,
        frequency_penalty: float,
        dry_multiplier: float,
        dry_base: float,
        dry_allowed_length: int,
        dry_range: int | None,
        dry_breakers: list[int],
        logit_bias: list[tuple[int, float]],
        min_tokens: int,
        banned: list[int],
        seed: int,
        logprobs: int | None,
    ) -> None: ...
    def choose_one(
        self, logits: NDArray[np.float32], mask: NDArray[np.uint32] | None = None
    ) -> int: ...
    def take_logprobs(self) -> Logprobs: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def count(self) -> int: ...

def choose(
    samplers: Sequence[Sampler],
    logits: NDArray[np.float32],
    first_rows: NDArray[np.int32],
    drafts: Sequence[Sequence[int]],
    machine: Machine | None,
) -> tuple[list[list[int]], list[str | None]]: ...
def logprobs(rows: NDArray[np.float32], targets: NDArray[np.int32], top: int) -> Logprobs: ...
def tiers() -> list[str]: ...
def probe_read_bandwidth(threads: int, bytes: int, seconds: float) -> float: ...
def probe_peak_f32(threads: int, seconds: float) -> float: ...
def probe_peak_int8(threads: int, seconds: float) -> float: ...
def probe_timer() -> float: ...
def instruction_sets() -> list[str]: ...
