"""Whole models: the fixtures, models that lack something, and the real ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from overclock.errors import ModelError, TokenizerError
from overclock.model.checkpoint import read_weights
from overclock.model.formats import Format
from overclock.model.load import load
from tests.model.gguf_writer import File, tiny_llama

FIXTURES = Path(__file__).parents[1] / "fixtures"
DIRECTORIES = sorted(path.parent.name for path in FIXTURES.glob("*/config.json"))
Weights = dict[str, NDArray[np.float32]]


@pytest.mark.parametrize("name", DIRECTORIES)
def test_every_family_loads_with_vectors_in_f32(name: str) -> None:
    model = load(FIXTURES / name)
    assert model.config.vocabulary == model.weights["token_embd.weight"].shape[0]
    vectors = [w for w in model.weights.values() if len(w.shape) == 1]
    assert {vector.format for vector in vectors} == {Format.F32}
    assert all(weight.name == name for name, weight in model.weights.items())


def test_gemma_norms_are_one_plus_what_is_stored(tmp_path: Path) -> None:
    folder, weights = copy(tmp_path, "gemma3")
    model = load(folder)
    for name, stored in {
        "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
        "blk.1.attn_q_norm.weight": "model.layers.1.self_attn.q_norm.weight",
        "blk.1.post_ffw_norm.weight": "model.layers.1.post_feedforward_layernorm.weight",
        "output_norm.weight": "model.norm.weight",
    }.items():
        found = model.weights[name].dequantize()
        np.testing.assert_allclose(found, weights[stored] + 1, rtol=1e-6)


def test_names_may_go_without_their_prefix(tmp_path: Path) -> None:
    folder, weights = copy(tmp_path, "llama")
    save(folder, {name.removeprefix("model."): array for name, array in weights.items()})
    assert load(folder).weights.keys() == load(FIXTURES / "llama").weights.keys()


def test_chat_templates_are_found(tmp_path: Path) -> None:
    folder, _ = copy(tmp_path, "llama")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    messages = [{"role": "user", "content": "hello"}]

    def rendered(**changes: object) -> str:
        text = json.dumps(settings | changes)
        (folder / "tokenizer_config.json").write_text(text)
        template = load(folder).chat_template
        assert template is not None
        return template.render(messages)

    assert rendered(chat_template="one") == "one"
    several = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "two"}]
    assert rendered(chat_template=several) == "two"
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert rendered(chat_template="one") == "hello"


def copy(folder: Path, name: str) -> tuple[Path, Weights]:
    target = folder / name
    shutil.copytree(FIXTURES / name, target)
    stored = read_weights(target)
    return target, {name: found.tensor(name).dequantize() for name, found in stored.items()}


def save(folder: Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
    plain = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    save_file(plain, folder / "model.safetensors")


def without(name: str) -> Callable[[Weights], None]:
    def edit(weights: Weights) -> None:
        del weights[name]

    return edit


def reshaped(name: str, *shape: int) -> Callable[[Weights], None]:
    def edit(weights: Weights) -> None:
        weights[name] = np.zeros(shape, np.float32)

    return edit


@pytest.mark.parametrize(
    ("fixture", "edit", "words"),
    [
        ("llama", without("model.norm.weight"), "lacks the weight output_norm.weight"),
        ("llama", without("model.embed_tokens.weight"), "lacks the weight token_embd.weight"),
        ("qwen3", without("model.layers.1.self_attn.q_norm.weight"), "blk.1.attn_q_norm.weight"),
        ("gemma3", without("model.layers.0.pre_feedforward_layernorm.weight"), "blk.0.ffn_norm"),
        ("bert", without("bert.encoder.layer.0.output.dense.bias"), "blk.0.ffn_down.bias"),
        ("bert", without("cls.predictions.transform.dense.weight"), "mlm.dense.weight"),
        ("llama", reshaped("model.norm.weight", 3), r"output_norm.weight has the shape \[3\]"),
        ("llama", reshaped("model.layers.0.mlp.up_proj.weight", 4, 4), "blk.0.ffn_up.weight"),
        ("llama", reshaped("model.layers.9.mlp.up_proj.weight", 4, 4), "blk.9.ffn_up.weight"),
        ("llama", reshaped("model.layers.0.mlp.router.weight", 4, 4), "'model.layers.0.mlp.router"),
        ("bert", reshaped("bert.embeddings.token_type_embeddings.weight", 0, 1), "token_types"),
    ],
)
def test_incomplete_checkpoints_are_refused(
    tmp_path: Path, fixture: str, edit: Callable[[Weights], None], words: str
) -> None:
    folder, weights = copy(tmp_path, fixture)
    edit(weights)
    save(folder, weights)
    with pytest.raises(ModelError, match=words) as caught:
        load(folder)
    assert not isinstance(caught.value, TokenizerError)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder, weights = copy(tmp_path, "bert")
    rows = 8
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
    weights["bert.embeddings.word_embeddings.weight"] = weights[
        "bert.embeddings.word_embeddings.weight"
    ][:rows]
    weights["cls.predictions.bias"] = weights["cls.predictions.bias"][:rows]
    weights.pop("cls.predictions.decoder.bias", None)
    weights.pop("cls.predictions.decoder.weight", None)
    save(folder, weights)
    with pytest.raises(TokenizerError, match=f"has only {rows}; the tokenizer belongs to another"):
        load(folder)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    folder, _ = copy(tmp_path, "bert")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load(folder)


def gguf(folder: Path, file: File) -> Path:
    path = folder / "tiny.gguf"
    path.write_bytes(file.bytes())
    return path


def test_a_tiny_gguf_loads(tmp_path: Path) -> None:
    model = load(gguf(tmp_path, tiny_llama()))
    assert (model.config.layers, model.tokenizer.vocabulary) == (1, model.config.vocabulary)
    assert model.weights["blk.0.ffn_down.weight"].shape == (8, 12)
    assert model.chat_template is None
    assert model.weight_bytes == sum(w.size * 4 for w in model.weights.values())


def test_an_incomplete_gguf_is_refused(tmp_path: Path) -> None:
    path = gguf(tmp_path, tiny_llama([("llama.block_count", 2)]))
    with pytest.raises(ModelError, match=r"lacks the weight blk\.1\."):
        load(path)
    path = gguf(tmp_path, tiny_llama([("llama.feed_forward_length", 16)]))
    with pytest.raises(ModelError, match=r"ffn_gate\.weight has the shape \[12, 8\]"):
        load(path)
    path = gguf(tmp_path, tiny_llama([("tokenizer.ggml.model", None)]))
    with pytest.raises(TokenizerError, match=r"tiny\.gguf: the file has no tokenizer"):
        load(path)


@pytest.mark.real
def test_the_real_decoder() -> None:
    model = load("smollm2")
    assert (model.config.layers, model.config.width, model.config.vocabulary) == (30, 576, 49152)
    formats = [weight.format for weight in model.weights.values()]
    counts = {format: formats.count(format) for format in set(formats)}
    assert counts == {Format.Q4_1: 210, Format.Q8_0: 1, Format.F32: 61}
    assert model.chat_template is not None


@pytest.mark.real
def test_the_real_encoder() -> None:
    config = load("minilm").config
    assert (config.layers, config.width, config.heads, config.context) == (6, 384, 12, 512)
    assert (config.pooling, config.normalize, config.sentence_tokens) == ("mean", True, 256)
