"""A model's name becomes a Model: files found, read, checked against each other."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from overclock.model import checkpoint
from overclock.model.checkpoint import Stored, plain, read_weights
from overclock.model.config_gguf import config_from_gguf
from overclock.model.config_json import config_from_json
from overclock.model.fields import read_json
from overclock.model.gguf import Gguf, read_gguf
from overclock.model.later import Later
from overclock.model.model import Config, Model, Tensor, Text
from overclock.model.names import canonical_names, gguf_names
from overclock.model.sentence import with_sentence_files
from overclock.model.source import Progress, resolve
from overclock.model.weights import check_weights, with_plain_vectors


@contextmanager
def _collection_paused() -> Iterator[None]:
    """No garbage collection: a vocabulary is a hundred thousand objects that all stay.

    To look through them again and again takes as long as to make them.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def load(name: str | Path, *, progress: Progress | None = None, text_later: bool = False) -> Model:
    """The model that `name` leads to (see `overclock.model.source.resolve`), ready to compile.

    Weights stay memory-mapped. What has to be fetched first is told to `progress`. `text_later`
    leaves the tokenizer and the chat template, and their errors, until they are first asked for.

    Raises SourceError if the name leads nowhere, ModelError if the files cannot be used,
    TokenizerError if their tokenizer cannot or belongs to another model.
    """
    path = resolve(name, progress=progress)
    model = (load_directory if path.is_dir() else load_gguf)(path, str(name))
    if not text_later:
        model.text.get()
    return model


@_collection_paused()
def load_gguf(path: Path, name: str | None = None) -> Model:
    """The model in a GGUF file, its text for later. Raises as `load` does."""
    file = read_gguf(path)
    config = config_from_gguf(path, file.metadata, file.tensors)
    weights = _gguf_weights(file, config)
    check_weights(config, weights, path)
    text = Later(partial(_gguf_text, file, config))
    return Model(name or path.stem, path, config, weights, text)


def load_directory(path: Path, name: str | None = None) -> Model:
    """The model in a directory with config.json and safetensors, its text for later.

    Raises as `load` does.
    """
    values = read_json(path / checkpoint.CONFIG)
    config = with_sentence_files(config_from_json(path / checkpoint.CONFIG, values), path)
    weights = _checkpoint_weights(read_weights(path), config)
    check_weights(config, weights, path)
    text = Later(partial(_directory_text, path, values, config))
    return Model(name or path.name, path, config, weights, text)


@_collection_paused()
def _gguf_text(file: Gguf, config: Config) -> Text:
    from overclock.model.text import gguf_text

    return gguf_text(file, config)


@_collection_paused()
def _directory_text(path: Path, values: Mapping[str, object], config: Config) -> Text:
    from overclock.model.text import directory_text

    return directory_text(path, values, config)


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
