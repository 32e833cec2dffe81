"""GGUF metadata of every architecture, and what is wrong with some."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from overclock.errors import ModelError
from overclock.model.config_gguf import config_from_gguf
from overclock.model.formats import Format
from overclock.model.model import Config, Tensor
from tests.model.gguf_writer import tiny_metadata

PATH = Path("model.gguf")


def tensor(name: str, values: object) -> Tensor:
    array = np.array(values, np.float32)
    return Tensor(name, array.shape, Format.F32, array.reshape(-1).view(np.uint8))


EMBEDDING = tensor("token_embd.weight", np.zeros((100, 8)))


def config(kind: str = "llama", /, *tensors: Tensor, **changes: object) -> Config:
    """`changes`: keys of the architecture, with __ for a dot."""
    metadata = {key.replace("llama.", f"{kind}.", 1): v for key, v in tiny_metadata().items()}
    metadata["general.architecture"] = kind
    metadata |= {f"{kind}.{key.replace('__', '.')}": value for key, value in changes.items()}
    here = {found.name: found for found in (EMBEDDING, *tensors)}
    return config_from_gguf(PATH, {k: v for k, v in metadata.items() if v is not None}, here)


def test_llama() -> None:
    found = config()
    assert (found.family, found.rope_style, found.activation) == ("llama", "interleaved", "silu")
    assert (found.vocabulary, found.width, found.heads, found.kv_heads) == (100, 8, 2, 1)
    assert (found.head_dim, found.attention_scale, found.context) == (4, 0.5, 64)
    assert found.tied_embeddings
    assert not config("llama", tensor("output.weight", np.zeros((100, 8)))).tied_embeddings
    np.testing.assert_allclose(found.rope_frequencies, [1.0, 0.01], rtol=1e-6)


def test_qwen_rotates_halves() -> None:
    assert config("qwen2").rope_style == config("qwen3").rope_style == "halves"
    assert config("qwen3", attention__key_length=16, attention__value_length=16).head_dim == 16


def test_llama3_divides_its_frequencies() -> None:
    found = config("llama", tensor("rope_freqs.weight", [2.0, 4.0]))
    np.testing.assert_allclose(found.rope_frequencies, [0.5, 0.0025], rtol=1e-6)
    for bad in ([1.0], [1.0, 0.0], [1.0, math.nan]):
        with pytest.raises(ModelError, match="rope_freqs"):
            config("llama", tensor("rope_freqs.weight", bad))


def test_scalings() -> None:
    found = config(rope__scaling__type="linear", rope__scaling__factor=4.0)
    np.testing.assert_allclose(found.rope_frequencies, [0.25, 0.0025], rtol=1e-6)
    old = config(rope__scale_linear=2.0)
    np.testing.assert_allclose(old.rope_frequencies, [0.5, 0.005], rtol=1e-6)
    yarn = config(
        rope__scaling__type="yarn",
        rope__scaling__factor=4.0,
        rope__scaling__original_context_length=16,
    )
    assert yarn.attention_scale == pytest.approx(0.5 * (0.1 * math.log(4) + 1) ** 2)


def test_gemma() -> None:
    changes = {"attention__sliding_window": 4, "block_count": 12, "attention__key_length": 4}
    found = config("gemma3", **changes, rope__freq_base=1e6)
    assert (found.activation, found.embedding_scale) == ("gelu_tanh", float(np.float32(8**0.5)))
    assert found.sliding_layers == ((True,) * 5 + (False,)) * 2
    np.testing.assert_allclose(found.rope_frequencies, [1.0, 0.001], rtol=1e-6)
    np.testing.assert_allclose(found.local_rope_frequencies, [1.0, 0.01], rtol=1e-6)
    assert found.attention_scale == 0.5
    large = config("gemma3", **changes | {"block_count": 62, "attention__key_length": 8})
    assert large.attention_scale == 0.5  # by width / heads, not by the length of keys


def test_a_window_of_mistral() -> None:
    assert config(attention__sliding_window=32).sliding_layers == (True,)
    assert config("qwen2", attention__sliding_window=32).sliding_layers == ()


def bert(*tensors: Tensor, **changes: object) -> Config:
    return config("bert", *tensors, **{"attention__layer_norm_epsilon": 1e-12} | changes)


@pytest.mark.parametrize(
    ("number", "pooling"), [(0, "none"), (1, "mean"), (2, "cls"), (4, "cls"), (None, "none")]
)
def test_bert(number: int | None, pooling: str) -> None:
    found = bert(pooling_type=number)
    assert (found.family, found.pooling, found.normalize) == ("bert", pooling, pooling != "none")
    assert (found.activation, found.head, found.kv_heads) == ("gelu", "none", 2)


def test_bert_that_classifies() -> None:
    output = tensor("cls.output.weight", np.zeros((3, 8)))
    assert bert(output).labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    found = bert(output, classifier__output_labels=["a", "b", "c"])
    assert (found.head, found.labels) == ("sequence", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_count": None}, "llama.block_count is missing"),
        ({"block_count": np.arange(3)}, "llama.block_count"),
        ({"embedding_length": 9}, "9 cannot be parted into 2"),
        ({"attention__value_length": 8}, "value_length"),
        ({"rope__dimension_count": 2}, "rope.dimension_count is 2"),
        ({"rope__scaling__type": "longrope"}, "'longrope'"),
        ({"expert_count": 8}, "expert_count is 8"),
        ({"context_length": 0}, "context_length is 0"),
        ({"attention__layer_norm_rms_epsilon": "x"}, "epsilon is 'x'"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        config(**changes)
    assert "model.gguf" in str(caught.value)


def test_unknown_architectures_and_missing_tables_are_refused() -> None:
    with pytest.raises(ModelError, match="'mamba'; the ones that can be run are"):
        config("mamba")
    with pytest.raises(ModelError, match=r"token_embd\.weight"):
        config_from_gguf(PATH, tiny_metadata(), {})
    with pytest.raises(ModelError, match="pooling_type is 3"):
        bert(pooling_type=3)
