"""The files that sentence-transformers puts beside a checkpoint: pooling, scaling, length.

Source: sentence-transformers' modules.json, one entry a step, each with a folder of its own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from overclock.errors import ModelError
from overclock.model.fields import Fields, read_json
from overclock.model.model import Config, Pooling

MODULES: Final = "modules.json"


def with_sentence_files(config: Config, directory: Path) -> Config:
    """`config` with what modules.json and its steps say; unchanged if there is no such file.

    Raises ModelError for a step that is not the encoder, a pooling or a normalisation.
    """
    if config.family != "bert" or not (directory / MODULES).is_file():
        return config
    for module in _modules(directory / MODULES):
        kind = module.text("type").rpartition(".")[2]
        if kind == "Pooling":
            config = replace(config, pooling=_pooling(directory / module.text("path", "")))
        elif kind == "Normalize":
            config = replace(config, normalize=True)
        elif kind != "Transformer":
            raise ModelError(
                f"{module.path} has a step {kind[:40]!r}, which cannot be run; "
                "the steps known are Transformer, Pooling and Normalize"
            )
    return replace(config, sentence_tokens=_length(directory, config.context))


def _modules(path: Path) -> list[Fields]:
    try:
        modules = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {str(error)[:80]}") from error
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{path} is not a list of steps; download the checkpoint again")
    return [Fields(path, module) for module in modules]


def _pooling(folder: Path) -> Pooling:
    fields = Fields(folder / "config.json", read_json(folder / "config.json"))
    modes = {key.removeprefix("pooling_mode_") for key, on in fields.values.items() if on is True}
    modes |= {fields.text("pooling_mode", "")} - {""}
    modes &= {
        "cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens",
        "lasttoken", "cls", "mean", "max", "mean_sqrt_len", "weightedmean",
    }  # fmt: skip
    if modes in ({"mean_tokens"}, {"mean"}):
        return "mean"
    if modes in ({"cls_token"}, {"cls"}):
        return "cls"
    raise ModelError(
        f"{fields.path} asks for pooling by {', '.join(sorted(modes)) or 'nothing'}; "
        "mean and cls are known"
    )


def _length(directory: Path, context: int) -> int:
    """The tokens a text is cut to, special ones included."""
    path = directory / "sentence_bert_config.json"
    if not path.is_file():
        return context
    return min(context, Fields(path, read_json(path)).size("max_seq_length", context))
