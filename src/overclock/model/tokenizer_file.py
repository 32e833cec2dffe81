"""Tokenizers from Hugging Face files: `tokenizer.json` with `tokenizer_config.json` beside it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from tokenizers import Tokenizer as Backend

from overclock.errors import TokenizerError
from overclock.model.special_tokens import TURN_ENDS, SpecialTokens, refusals

_USUAL = {
    "bos": ("<s>", "<bos>", "<|begin_of_text|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]"),
    "pad": ("<pad>", "[PAD]"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
}
"""Spellings to look for when there is no `tokenizer_config.json`."""

_OBEYS_ADD_BOS = ("Llama", "CodeLlama", "Gemma")
"""Classes whose `add_bos_token` overrules the post-processor of the file."""


def read(path: Path, config: Mapping[str, object]) -> tuple[Backend, SpecialTokens]:
    """The tokenizer of `path` and its special tokens.

    Raises:
        TokenizerError: see `Tokenizer.from_file`.
    """
    backend = _backend(path)
    roles = {role: _role(backend, role, config, path) for role in _USUAL}
    prefix, suffix = _around(backend, path)
    if roles["bos"] is not None and _obeys_add_bos(config):
        prefix = (roles["bos"],) if config["add_bos_token"] else ()
    special = SpecialTokens(
        **roles, ends=_ends(backend, roles["eos"], config, path), prefix=prefix, suffix=suffix
    )
    return backend, special


def _backend(path: Path) -> Backend:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read the tokenizer {path}: {error.strerror}") from error
    with refusals(f"the tokenizer {path}"):
        backend = Backend.from_buffer(content)
        # Cutting and filling up texts is the caller's business, not the file's.
        backend.no_truncation()
        backend.no_padding()
    if backend.get_vocab_size() == 0:
        raise TokenizerError(f"the tokenizer {path} has no tokens; fetch the model again")
    return backend


def _role(backend: Backend, role: str, config: Mapping[str, object], path: Path) -> int | None:
    """The id of the token with this role: by id, by the configuration's spelling, by custom."""
    ids = _ids(config.get(f"{role}_token_id"), f"{role}_token_id", backend, path)
    if ids:
        return ids[0]
    if f"{role}_token" in config:
        spelling = _spelling(config[f"{role}_token"])
        return None if spelling is None else _known(backend, spelling, role, path)
    if any(name.endswith("_token") for name in config):
        return None
    found = map(backend.token_to_id, _USUAL[role])
    return next((id for id in found if id is not None), None)


def _spelling(value: object) -> str | None:
    content = value.get("content") if isinstance(value, Mapping) else value
    return content if isinstance(content, str) else None


def _known(backend: Backend, token: str, role: str, path: Path) -> int:
    id = backend.token_to_id(token)
    if id is None:
        raise TokenizerError(
            f"tokenizer_config.json names {token!r} as {role}_token, but {path} has no such token"
        )
    return id


def _ids(value: object, name: str, backend: Backend, path: Path) -> tuple[int, ...]:
    """A configuration's id or list of ids."""
    listed = value if isinstance(value, list | tuple) else () if value is None else (value,)
    for id in listed:
        if not isinstance(id, int) or id < 0 or backend.id_to_token(id) is None:
            raise TokenizerError(f"{name} is {id!r}, which is no token of {path}")
    return tuple(listed)


def _ends(
    backend: Backend, eos: int | None, config: Mapping[str, object], path: Path
) -> frozenset[int]:
    added = backend.get_added_tokens_decoder().items()
    by_name = {id for id, token in added if token.special and token.content in TURN_ENDS}
    named = _ids(config.get("eos_token_id"), "eos_token_id", backend, path)
    return frozenset(by_name.union(named, () if eos is None else (eos,)))


def _obeys_add_bos(config: Mapping[str, object]) -> bool:
    named = str(config.get("tokenizer_class", ""))
    return isinstance(config.get("add_bos_token"), bool) and named.startswith(_OBEYS_ADD_BOS)


def _around(backend: Backend, path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the file's post-processor puts in front of a text and behind it."""
    with refusals(f"the tokenizer {path}"):
        encoding = backend.encode("a")
    before = len(list(takewhile(bool, encoding.special_tokens_mask)))
    after = len(list(takewhile(bool, reversed(encoding.special_tokens_mask[before:]))))
    ids = encoding.ids
    return tuple(ids[:before]), tuple(ids[len(ids) - after :])
