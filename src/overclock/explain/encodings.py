"""What an encoder says of a text explained: a class, a token's label, a missing word, a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from overclock.errors import InputError
from overclock.explain import occlusion, texts
from overclock.explain.explainer import Explainer
from overclock.explain.explanation import (
    Explanation,
    Kind,
    Target,
    Wanted,
    columns_of,
    lens_of,
    looks_of,
)
from overclock.explain.lens import log_softmax
from overclock.explain.occlusion import Occlusion, Progress, Question
from overclock.explain.running import Array
from overclock.model.model import Model
from overclock.model.tokenizer import Tokenizer

UNLABELLED = "O"
"""The label of tokens that are nothing in particular, in the usual BIO scheme."""


def explain_encoding(
    explainer: Explainer,
    text: str,
    wanted: Wanted,
    *,
    target: str | None = None,
    position: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Explanation:
    """Why an encoder says what it says of `text`.

    target: the class, label or word to explain; None for what the model finds likeliest
    position: the token whose label or word it is. None for the first mask of a masked-LM head; of a
        token head, for the token that it is surest of among those with a label other than O

    Raises InputError for an empty or too long text, or a target, position, layer or head that there
    is not.
    """
    if not text.strip():
        raise InputError("there is nothing to explain; give some text")
    ids = explainer.model.tokenizer.encode(text, special=True)
    explainer.check(ids)
    explainer.check_layer(wanted.layer, wanted.head)
    tokens = texts.tokens(explainer.model.tokenizer, ids)
    matter = _Asking(explainer, ids, tokens, target, position).matter()
    columns = [] if matter.column is None else [matter.column]
    lens = lens_of(explainer, ids, matter.places[:1], columns, wanted)
    names = {column: _name(explainer.model, column) for column in columns_of(lens)}
    return Explanation(
        explainer.model.name,
        matter.kind,
        tokens,
        len(ids),
        (Target(matter.text, matter.places, matter.value),),
        names,
        looks_of(explainer, ids, wanted),
        lens,
        _occlusion(explainer, ids, tokens, matter.question, wanted, progress),
    )


@dataclass(frozen=True, slots=True)
class _Matter:
    """What is explained: its text, where it is said, the column it is in, how it is measured."""

    kind: Kind
    text: str
    places: tuple[int, ...]
    column: int | None
    value: float | None
    question: Question


@dataclass(frozen=True, slots=True)
class _Asking:
    """Finds out what the model says of a text, and which of it shall be explained."""

    explainer: Explainer
    ids: Sequence[int]
    tokens: Sequence[texts.Token]
    target: str | None
    position: int | None

    def matter(self) -> _Matter:
        """What is asked for. Raises InputError if there is no such thing."""
        head = self.explainer.model.config.head
        if head not in ("token", "masked_lm") and self.position is not None:
            raise InputError("a position is for models that say something of every token")
        if self.position is not None and not 0 <= self.position < len(self.ids):
            raise InputError(
                f"there is no token {self.position}; the text's are 0 to {len(self.ids) - 1}"
            )
        match head:
            case "sequence":
                return self._sequence()
            case "token":
                return self._token()
            case "masked_lm":
                return self._masked()
            case "none":
                return self._embedding()

    def _sequence(self) -> _Matter:
        [scores] = self._run("scores")
        labels = self.explainer.model.config.labels
        column = int(scores.argmax()) if self.target is None else self._label()
        if len(labels) == 1:
            question = Question("scores", (), lambda rows: float(rows[0, 0]), "score")
            return _Matter("sequence", labels[0], (0,), 0, float(scores[0]), question)
        return self._chosen("sequence", labels[column], 0, column, scores, row=0)

    def _token(self) -> _Matter:
        scores = self._run("scores")
        labels = self.explainer.model.config.labels
        place = self._surest(scores) if self.position is None else self.position
        column = int(scores[place].argmax()) if self.target is None else self._label()
        return self._chosen("token", labels[column], place, column, scores[place], row=place)

    def _masked(self) -> _Matter:
        tokenizer = self.explainer.model.tokenizer
        place = self._first_mask(tokenizer) if self.position is None else self.position
        [scores] = self._run("scores", [place])
        column = int(scores.argmax()) if self.target is None else self._word(tokenizer)
        text = texts.one(tokenizer, column)
        return self._chosen("masked_lm", text, place, column, scores, row=0, rows=(place,))

    def _embedding(self) -> _Matter:
        if self.target is not None:
            raise InputError(
                f"{self.explainer.model.name} has no head, so it has no classes to be a target"
            )
        [whole] = self._run("embedding")
        is_first = self.explainer.model.config.pooling == "cls"
        places = (0,) if is_first else tuple(range(len(self.ids)))
        question = Question("embedding", (), _cosine_to(whole), "cosine")
        return _Matter("embedding", "embedding", places, None, None, question)

    def _chosen(
        self,
        kind: Kind,
        text: str,
        place: int,
        column: int,
        scores: Array,
        *,
        row: int,
        rows: tuple[int, ...] = (),
    ) -> _Matter:
        """One of several columns, measured by its log-probability in a row of the output."""

        def judge(values: Array) -> float:
            return float(log_softmax(values[row])[column])

        question = Question("scores", rows, judge, "log-probability")
        value = float(np.exp(log_softmax(scores)[column]))
        return _Matter(kind, text, (place,), column, value, question)

    def _run(self, output: str, rows: Sequence[int] = ()) -> Array:
        running = self.explainer.usual
        return running.machine.run(running.sequence(self.ids, rows, output))

    def _label(self) -> int:
        labels = self.explainer.model.config.labels
        for spelled in (str, str.casefold):
            names = [spelled(label) for label in labels]
            if spelled(str(self.target)) in names:
                return names.index(spelled(str(self.target)))
        raise InputError(f"there is no class {self.target!r}; the model's are {', '.join(labels)}")

    def _word(self, tokenizer: Tokenizer) -> int:
        found = tokenizer.encode(str(self.target), add_bos=False)
        if len(found) != 1:
            raise InputError(
                f"{self.target!r} is {len(found)} tokens, and only one can stand at a position"
            )
        return found[0]

    def _first_mask(self, tokenizer: Tokenizer) -> int:
        mask = tokenizer.mask_id
        if mask is None or mask not in self.ids:
            word = "a mask" if mask is None else tokenizer.token(mask)
            raise InputError(
                f"the text has no mask; write {word} where a word is missing, or name a --position"
            )
        return list(self.ids).index(mask)

    def _surest(self, scores: Array) -> int:
        """The token with the likeliest label that is not `UNLABELLED`, else with any."""
        labels = self.explainer.model.config.labels
        best = np.exp(log_softmax(scores)).max(axis=1)
        inside = np.array([not token.is_special for token in self.tokens])
        named = np.array([labels[column] != UNLABELLED for column in scores.argmax(axis=1)])
        return int(np.argmax(best + 2 * (inside & named) + inside))


def _cosine_to(whole: Array) -> Callable[[Array], float]:
    def judge(values: Array) -> float:
        lengths = np.linalg.norm(whole) * np.linalg.norm(values[0])
        return float(values[0] @ whole / max(lengths, np.float32(1e-12)))

    return judge


def _occlusion(
    explainer: Explainer,
    ids: Sequence[int],
    tokens: Sequence[texts.Token],
    question: Question,
    wanted: Wanted,
    progress: Progress,
) -> Occlusion | None:
    if "occlusion" not in wanted.methods:
        return None
    groups = texts.groups(tokens, words=wanted.words)
    mask = _blank(explainer.model)
    return occlusion.of_encoding(explainer.usual, ids, mask, groups, question, progress)


def _blank(model: Model) -> int:
    """The token that stands for one that is left out."""
    tokenizer = model.tokenizer
    found = (tokenizer.mask_id, tokenizer.unk_id, tokenizer.pad_id)
    blank = next((id for id in found if id is not None), None)
    if blank is None:
        raise InputError(
            f"{model.name} has no token for what is left out; ask for another --method"
        )
    return blank


def _name(model: Model, column: int) -> str:
    if model.config.head == "masked_lm":
        return texts.one(model.tokenizer, column)
    return model.config.labels[column]
