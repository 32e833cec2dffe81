"""The forms that a prompt may have, and the tokens that each becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from overclock.errors import InputError
from overclock.model.model import Model

Message: TypeAlias = Mapping[str, object]
"""One turn of a conversation: at least a ``role`` and a ``content``."""

Ids: TypeAlias = Sequence[int] | NDArray[np.integer]
Prompt: TypeAlias = str | Ids | Sequence[Message]
Batch: TypeAlias = list[str] | Sequence[Ids] | Sequence[Sequence[Message]] | list[Prompt]


def is_batch(prompt: object) -> bool:
    """Whether `prompt` is a list of prompts rather than one."""
    if isinstance(prompt, np.ndarray):
        return prompt.ndim > 1
    if not isinstance(prompt, (list, tuple)) or not prompt:
        return False
    return isinstance(prompt[0], (str, list, tuple, np.ndarray))


def to_ids(model: Model, prompt: object) -> list[int]:
    """The tokens of one prompt.

    Text is taken as it is, with special tokens recognised and the tokenizer's BOS in front if it
    adds one; messages go through the model's chat template; token ids stay what they are.

    Raises InputError if the prompt is empty, of another kind, has an id out of range, or is made
    of messages and the model has no chat template.
    """
    if isinstance(prompt, str):
        ids = model.tokenizer.encode(prompt, special=True) if prompt else []
    elif isinstance(prompt, np.ndarray) or _all_are(prompt, (int, np.integer)):
        ids = _checked(model, np.asarray(prompt))
    elif _all_are(prompt, Mapping):
        ids = _from_messages(model, prompt)  # type: ignore[arg-type]
    else:
        raise InputError(
            "a prompt must be text, token ids or messages (mappings with role and content)"
        )
    if not ids:
        raise InputError("the prompt is empty; give at least one token")
    return ids


def render(model: Model, messages: Sequence[Message]) -> str:
    """The text that the model's chat template makes of `messages`, ready for its answer.

    Raises InputError if there is no template or a message lacks its role or content.
    """
    if model.chat_template is None:
        raise InputError(
            f"{model.name} has no chat template; give a plain text prompt (--raw on the command "
            "line)"
        )
    for message in messages:
        if not isinstance(message.get("role"), str) or "content" not in message:
            raise InputError(f"the message {dict(message)!r} needs a role and a content")
    return model.chat_template.render(messages, add_generation_prompt=True)


def _from_messages(model: Model, messages: Sequence[Message]) -> list[int]:
    # The template writes the BOS itself where the model wants one.
    return model.tokenizer.encode(render(model, messages), special=True, add_bos=False)


def _checked(model: Model, ids: NDArray[np.integer]) -> list[int]:
    if ids.size == 0:
        return []
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"token ids must be one row of whole numbers, not {ids.dtype} {ids.shape}")
    bad = ids[(ids < 0) | (ids >= model.config.vocabulary)]
    if bad.size:
        raise InputError(
            f"the token id {bad[0]} is not in the vocabulary of {model.name}: "
            f"ids go from 0 to {model.config.vocabulary - 1}"
        )
    numbers: list[int] = ids.tolist()
    return numbers


def _all_are(prompt: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(prompt, (list, tuple, range)) and all(
        isinstance(each, kinds) and not isinstance(each, bool) for each in prompt
    )
