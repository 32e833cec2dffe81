"""How a model's text becomes tokens: its tokenizer and chat template, found beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from overclock.errors import ModelError, TokenizerError
from overclock.model.chat import ChatTemplate
from overclock.model.fields import read_json
from overclock.model.gguf import Gguf
from overclock.model.model import Config, Text
from overclock.model.tokenizer import Tokenizer


def gguf_text(file: Gguf, config: Config) -> Text:
    """Tokenizer and chat template of a GGUF file. Raises TokenizerError if they cannot be used."""
    tokenizer = _gguf_tokenizer(file, config)
    check_tokenizer(tokenizer, config, file.path)
    source = file.metadata.get("tokenizer.chat_template")
    template = _chat_template(source if isinstance(source, str) else None, tokenizer)
    return Text(tokenizer, template)


def directory_text(path: Path, values: Mapping[str, object], config: Config) -> Text:
    """Tokenizer and chat template of a checkpoint; `values` is what its config.json holds.

    Raises TokenizerError if tokenizer.json cannot be used, ModelError for the files beside it.
    """
    settings = _tokenizer_settings(path, values)
    tokenizer = Tokenizer.from_file(path / "tokenizer.json", settings, vocabulary=config.vocabulary)
    check_tokenizer(tokenizer, config, path)
    return Text(tokenizer, _chat_template(_template_source(path, settings), tokenizer))


def check_tokenizer(tokenizer: Tokenizer, config: Config, path: Path) -> None:
    """Raise TokenizerError if the tokenizer makes ids that the model has no row for."""
    if tokenizer.vocabulary > config.vocabulary:
        raise TokenizerError(
            f"{path}: the tokenizer has {tokenizer.vocabulary} tokens but the model has only "
            f"{config.vocabulary}; the tokenizer belongs to another model"
        )


def _gguf_tokenizer(file: Gguf, config: Config) -> Tokenizer:
    try:
        return Tokenizer.from_gguf(file.metadata, vocabulary=config.vocabulary)
    except TokenizerError as error:
        raise TokenizerError(f"{file.path}: {error}") from error


def _tokenizer_settings(path: Path, config: Mapping[str, object]) -> dict[str, object]:
    """tokenizer_config.json, with the ids of the tokens that begin and end a text."""
    settings = _optional_json(path / "tokenizer_config.json")
    generation = _optional_json(path / "generation_config.json")
    for key in ("bos_token_id", "eos_token_id"):
        value = generation.get(key, config.get(key))
        if value is not None and settings.get(key) is None:
            settings[key] = value
    return settings


def _optional_json(path: Path) -> dict[str, object]:
    return read_json(path) if path.is_file() else {}


def _template_source(path: Path, settings: Mapping[str, object]) -> str | None:
    """The chat template: a file of its own, or in tokenizer_config.json, alone or in a list."""
    file = path / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text("utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"{file} cannot be read: {str(error)[:80]}") from error
    source = settings.get("chat_template")
    if isinstance(source, list):
        named = [entry for entry in source if isinstance(entry, dict)]
        source = next((e.get("template") for e in named if e.get("name") == "default"), None)
    return source if isinstance(source, str) else None


def _chat_template(source: str | None, tokenizer: Tokenizer) -> ChatTemplate | None:
    if source is None:
        return None
    bos, eos = (
        "" if id is None else tokenizer.token(id) for id in (tokenizer.bos_id, tokenizer.eos_id)
    )
    return ChatTemplate(source, bos=bos, eos=eos)
