"""Looks into a model while it runs: its attention, and what each of its layers would say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby

import numpy as np

from overclock.errors import InputError
from overclock.explain import attention
from overclock.explain.compiled import LENS, Attention, Compiled, compiled
from overclock.explain.lens import Lens
from overclock.explain.occlusion import Progress
from overclock.explain.running import RUN_BYTES, Array, Running
from overclock.machine.choose import MachineName
from overclock.machine.machine import Batch
from overclock.model.model import Model
from overclock.program.compiler import compile

MOST_TOKENS = 512
"""Most tokens of a text with its answer: the maps of a layer grow with their square."""

MAPS_BYTES = 512 << 20
"""Most memory for the maps of all layers and heads together."""

TAPS_BYTES = 256 << 20
"""Most memory for the queries and keys that one run copies out."""


class Explainer:
    """A decoder or encoder on a machine, to be looked into.

    It runs the plain program in exact mode; `usual` is the model as it runs otherwise, loaded when
    it is first asked for.
    """

    def __init__(
        self,
        model: Model,
        threads: int | None = None,
        exact: bool = False,
        *,
        machine: MachineName = "native",
        tokens: int = MOST_TOKENS,
    ) -> None:
        """Compile and load; `tokens` is the most that a text with its answer may have.

        exact: `usual` has f32 activations too, so that the answer is the one the lens ends in

        Raises InputError for an impossible number, MachineError if there is not enough memory.
        """
        if tokens < 1:
            raise InputError(f"tokens is {tokens}; an explanation takes at least 1")
        self.model = model
        limits = (tokens, model.config.context, model.config.sentence_tokens)
        self.tokens = min(filter(None, limits))
        self._options = (machine, threads)
        self._exact = exact
        self.compiled: Compiled = compiled(model)
        self._running = Running(
            model, self.compiled.program, self.tokens, machine=machine, threads=threads, kv="f32"
        )

    @cached_property
    def usual(self) -> Running:
        """The model as `run` and `embed` run it, which answers and is asked what it needs.

        Raises MachineError if memory does not suffice.
        """
        machine, threads = self._options
        program = compile(self.model, exact=self._exact)
        return Running(self.model, program, self.tokens, machine=machine, threads=threads, kv="f16")

    @property
    def sites(self) -> tuple[Attention, ...]:
        """How each layer attends."""
        return self.compiled.attention

    @property
    def columns(self) -> int:
        """Width of what the model answers: its vocabulary, its labels, its vectors."""
        return self._running.columns(self.compiled.answer)

    def check(self, ids: Sequence[int]) -> None:
        """Raise InputError if a text is empty, or has more tokens than there is room for."""
        if not ids:
            raise InputError("there is nothing to explain; give some text")
        if len(ids) > self.tokens:
            raise InputError(
                f"the text, with its answer if it has one, needs {len(ids)} tokens, but an "
                f"explanation takes at most {self.tokens}; shorten it"
            )

    def check_layer(self, layer: int | None, head: int | None) -> None:
        """Raise InputError if there is no such layer or head; None is any."""
        config = self.model.config
        for what, value, count in (("layer", layer, config.layers), ("head", head, config.heads)):
            if value is not None and not 0 <= value < count:
                raise InputError(
                    f"{self.model.name} has no {what} {value}; its {what}s are 0 to {count - 1}"
                )

    # -- attention ----------------------------------------------------------------------------

    def maps(self, ids: Sequence[int], layers: Sequence[int] | None = None) -> Iterator[Array]:
        """The attention of each layer, in order, ``f32[heads, T, T]`` one at a time.

        A row is a token that looks, a column one that is looked at. `layers`: None for all.
        Raises InputError as `check` does.
        """
        self.check(ids)
        chosen = range(len(self.sites)) if layers is None else layers
        for group in self._tapped_together(len(ids), [self.sites[layer] for layer in chosen]):
            names = [name for site in group for name in (site.q, site.k)]
            _, found = self._running.machine.tapped(self._last_row(ids), names)
            for site in group:
                yield attention.probabilities(site, found[site.q], found[site.k])

    def all_maps(self, ids: Sequence[int]) -> Array:
        """The attention of all layers, ``f32[layers, heads, T, T]``.

        Raises InputError as `check` does, and for more tokens than `MAPS_BYTES` are enough for.
        """
        config = self.model.config
        each = 4 * config.layers * config.heads
        if each * len(ids) ** 2 > MAPS_BYTES:
            raise InputError(
                f"the maps of {len(ids)} tokens take more than {MAPS_BYTES >> 20} MB; give at most "
                f"{int((MAPS_BYTES / each) ** 0.5)} tokens, or ask for one layer at a time"
            )
        return np.stack(list(self.maps(ids)))

    def rollout(self, ids: Sequence[int]) -> Array:
        """Attention rollout, ``f32[T, T]``; see `attention.rolled_out`."""
        return attention.rolled_out(self.maps(ids))

    def _last_row(self, ids: Sequence[int]) -> Batch:
        return self._running.sequence(ids, [len(ids) - 1], self.compiled.output)

    def _tapped_together(
        self, tokens: int, sites: Sequence[Attention]
    ) -> Iterator[list[Attention]]:
        """Layers in order, as many together as `TAPS_BYTES` are enough for."""
        head_dim = self.model.config.head_dim
        sizes = [4 * tokens * head_dim * (site.heads + site.kv_heads) for site in sites]
        runs = np.cumsum(sizes) // max(TAPS_BYTES, max(sizes, default=0))
        for _, group in groupby(zip(runs, sites), key=lambda pair: int(pair[0])):
            yield [site for _, site in group]

    # -- the lens -----------------------------------------------------------------------------

    def answers(self, ids: Sequence[int], places: Sequence[int]) -> Iterator[Array]:
        """What all layers say at each place, in order: ``f32[layers, columns]`` one at a time.

        The last layer's row is the model's answer in exact mode. Columns are the vocabulary, or a
        classifier's labels; a sequence classifier says one thing, at no place in particular.
        Raises InputError as `check` does, or if the model has no head.
        """
        self.check(ids)
        if not self.compiled.lenses:
            raise InputError(f"{self.model.name} has no head, so its layers say nothing")
        for rows in self._lens_runs(ids, places):
            yield from rows

    def lens(
        self,
        ids: Sequence[int],
        places: Sequence[int],
        targets: Sequence[int],
        most: int = 5,
        progress: Progress = lambda done, total: None,
    ) -> Lens:
        """The logit lens at some places, where the columns `targets` came; errors as `answers`.

        most: how many of the likeliest columns are kept
        """
        parts: list[Lens] = []
        for target, rows in zip(targets, self.answers(ids, places)):
            parts.append(Lens.of(rows[None], [target], most))
            progress(len(parts), len(targets))
        return Lens.joined(parts)

    def _lens_runs(self, ids: Sequence[int], places: Sequence[int]) -> Iterator[Array]:
        """The answers at the places, ``f32[some places, layers, columns]`` a run."""
        match self.model.config.head if self.compiled.answer == "scores" else "decoder":
            case "decoder":
                yield from self._pieces(ids, places)
            case "masked_lm":
                for some in self._chunks(places):
                    yield self._layers(self._running.sequence(ids, some, LENS))
            case "token":
                yield self._layers(self._running.sequence(ids, [], LENS))[list(places)]
            case _:
                yield self._layers(self._running.sequence(ids, [], LENS))

    def _pieces(self, ids: Sequence[int], places: Sequence[int]) -> Iterator[Array]:
        """The sequence goes on from run to run, so that no token is computed twice."""
        first = 0
        for some in self._chunks(places):
            end = some[-1] + 1
            rows = [place - first for place in some]
            yield self._layers(self._running.sequence(ids[:end], rows, LENS, first))
            first = end

    def _chunks(self, places: Sequence[int]) -> Iterator[Sequence[int]]:
        """Places in order, as many together as `RUN_BYTES` are enough for."""
        row = 4 * len(self.sites) * self.columns
        size = max(1, RUN_BYTES // row)
        for start in range(0, len(places), size):
            yield places[start : start + size]

    def _layers(self, batch: Batch) -> Array:
        """What each layer says in a run, ``f32[rows, layers, columns]``."""
        _, found = self._running.machine.tapped(batch, self.compiled.lenses)
        return np.stack([found[name] for name in self.compiled.lenses], axis=1)
