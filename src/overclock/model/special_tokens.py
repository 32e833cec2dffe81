"""The tokens that carry structure instead of text, by the names files give them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from overclock.errors import TokenizerError

TURN_ENDS = (
    "<|im_end|>",  # ChatML: SmolLM2, Qwen
    "<|eot_id|>",  # Llama 3
    "<|eom_id|>",
    "<|eot|>",  # Llama 4
    "<|eom|>",
    "<|end_of_text|>",
    "<end_of_turn>",  # Gemma
    "<eos>",
    "</s>",
    "<|end|>",  # Phi
    "<|endoftext|>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",  # Command R
    "<｜end▁of▁sentence｜>",  # DeepSeek
)
"""Control tokens that end a turn wherever a vocabulary has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Ids of special tokens (None: the tokenizer has no such token).

    `ends` are all that end a turn; `prefix` and `suffix` go around a text.
    """

    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    pad: int | None = None
    cls: int | None = None
    sep: int | None = None
    mask: int | None = None
    ends: frozenset[int] = frozenset()
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn whatever the `tokenizers` library raises into a `TokenizerError` about `what`.

    Its Rust panics arrive as a `BaseException` that cannot be imported.
    """
    try:
        yield
    except TokenizerError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{what} cannot be used: {error}") from error
