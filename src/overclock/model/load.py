"""A model's name becomes a Model: files found, read, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from overclock.errors import ModelError, TokenizerError
from overclock.model import checkpoint
from overclock.model.checkpoint import Stored, plain, read_weights
from overclock.model.config_gguf import config_from_gguf
from overclock.model.config_json import config_from_json
from overclock.model.fields import read_json
from overclock.model.gguf import Gguf, read_gguf
from overclock.model.model import Config, Model, Tensor
from overclock.model.names import canonical_names, gguf_names
from overclock.model.sentence import with_sentence_files
from overclock.model.source import Progress, resolve
from overclock.model.tokenizer import Tokenizer
from overclock.model.weights import check_weights, with_plain_vectors

if TYPE_CHECKING:
    from overclock.model.chat import ChatTemplate


def load(name: str | Path, *, progress: Progress | None = None) -> Model:
    """The model that `name` leads to (see `overclock.model.source.resolve`), ready to compile.

    Weights stay memory-mapped. What has to be fetched first is told to `progress`.

    Raises SourceError if the name leads nowhere, ModelError if the files cannot be used,
    TokenizerError if their tokenizer cannot or belongs to another model.
    """
    path = resolve(name, progress=progress)
    return (load_directory if path.is_dir() else load_gguf)(path, str(name))


def load_gguf(path: Path, name: str | None = None) -> Model:
    """The model in a GGUF file. Raises as `load` does."""
    file = read_gguf(path)
    config = config_from_gguf(path, file.metadata, file.tensors)
    weights = _gguf_weights(file, config)
    check_weights(config, weights, path)
    tokenizer = _gguf_tokenizer(file, config)
    check_tokenizer(tokenizer, config, path)
    source = file.metadata.get("tokenizer.chat_template")
    template = _chat_template(source if isinstance(source, str) else None, tokenizer)
    return Model(name or path.stem, path, config, weights, tokenizer, template)


def load_directory(path: Path, name: str | None = None) -> Model:
    """The model in a directory with config.json, safetensors and tokenizer.json.

    Raises as `load` does.
    """
    values = read_json(path / checkpoint.CONFIG)
    config = with_sentence_files(config_from_json(path / checkpoint.CONFIG, values), path)
    weights = _checkpoint_weights(read_weights(path), config)
    check_weights(config, weights, path)
    settings = _tokenizer_settings(path, values)
    tokenizer = Tokenizer.from_file(path / "tokenizer.json", settings, vocabulary=config.vocabulary)
    check_tokenizer(tokenizer, config, path)
    template = _chat_template(_template_source(path, settings), tokenizer)
    return Model(name or path.name, path, config, weights, tokenizer, template)


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


def _gguf_weights(file: Gguf, config: Config) -> dict[str, Tensor]:
    names = gguf_names(file.tensors, config.family)
    return with_plain_vectors({new: file.tensors[old] for new, old in names})


def _checkpoint_weights(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    names = canonical_names(stored, config.architecture, config.head, tied=config.tied_embeddings)
    weights = with_plain_vectors(checkpoint.tensors(stored, names))
    if config.architecture != "gemma3":
        return weights
    return {
        name: plain(tensor, 1.0) if name.endswith("norm.weight") else tensor
        for name, tensor in weights.items()
    }


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
    from overclock.model.chat import ChatTemplate

    bos, eos = (
        "" if id is None else tokenizer.token(id) for id in (tokenizer.bos_id, tokenizer.eos_id)
    )
    return ChatTemplate(source, bos=bos, eos=eos)
