"""What sentence-transformers writes beside a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from overclock.errors import ModelError
from overclock.model.config_json import config_from_json
from overclock.model.sentence import with_sentence_files

BERT = config_from_json(
    Path("config.json"),
    {
        "model_type": "bert", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 128,
    },
)  # fmt: skip
OLD = "sentence_transformers.models."


def write(folder: Path, kinds: list[str], pooling: object = None, length: object = None) -> Path:
    modules = [{"idx": i, "path": f"{i}_x", "type": kind} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_x").mkdir(exist_ok=True)
    (folder / "1_x" / "config.json").write_text(json.dumps(pooling))
    if length is not None:
        settings = {"max_seq_length": length, "do_lower_case": False}
        (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    return folder


def test_nothing_is_changed_without_the_files(tmp_path: Path) -> None:
    assert with_sentence_files(BERT, tmp_path) is BERT


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "word_embedding_dimension": 8}, "cls"),
        ({"pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_pooling(tmp_path: Path, pooling: object, wanted: str) -> None:
    found = with_sentence_files(
        BERT, write(tmp_path, [OLD + "Transformer", OLD + "Pooling"], pooling)
    )
    assert (found.pooling, found.normalize, found.sentence_tokens) == (wanted, False, 128)


def test_normalisation_and_length(tmp_path: Path) -> None:
    kinds = [OLD + "Transformer", OLD + "Pooling", "sentence_transformers.modules.Normalize"]
    folder = write(tmp_path, kinds, {"pooling_mode": "mean"}, 64)
    found = with_sentence_files(BERT, folder)
    assert (found.normalize, found.sentence_tokens) == (True, 64)
    write(tmp_path, kinds, {"pooling_mode": "mean"}, 4096)
    assert with_sentence_files(BERT, folder).sentence_tokens == 128
    assert with_sentence_files(replace(BERT, family="llama"), folder).pooling == "none"


@pytest.mark.parametrize(
    ("kinds", "pooling", "length", "words"),
    [
        (["Transformer", "Pooling", "Dense"], {"pooling_mode": "cls"}, 5, "a step 'Dense'"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, 5, "pooling by max_tokens"),
        (["Transformer", "Pooling"], {}, 5, "pooling by nothing"),
        (["Transformer", "Pooling"], [], 5, "no JSON object"),
        (["Transformer", "Pooling"], {"pooling_mode": "cls"}, 0, "max_seq_length is 0"),
        (["Transformer", "Pooling"], {"pooling_mode": "cls"}, "x", "max_seq_length is 'x'"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, kinds: list[str], pooling: object, length: object, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        with_sentence_files(BERT, write(tmp_path, kinds, pooling, length))


@pytest.mark.parametrize("text", ["{}", "[1]", "[", '[{"type": 3}]', "[{}]"])
def test_damaged_lists_of_steps_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(ModelError, match=r"modules\.json"):
        with_sentence_files(BERT, tmp_path)
