"""config.json in all spellings that are around, and what is wrong with some."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overclock.errors import ModelError
from overclock.model.config_json import config_from_json
from overclock.model.model import Config

PATH = Path("config.json")
LLAMA: dict[str, object] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
BERT = LLAMA | {"model_type": "bert", "architectures": ["BertModel"]}
GEMMA = LLAMA | {"model_type": "gemma3_text", "head_dim": 32, "num_key_value_heads": 2}
GEMMA["num_hidden_layers"] = 7


def config(values: dict[str, object], **more: object) -> Config:
    return config_from_json(PATH, values | more)


def frequencies(theta: float, head_dim: int) -> list[float]:
    return [theta ** (-2 * i / head_dim) for i in range(head_dim // 2)]


def test_a_plain_llama() -> None:
    found = config(LLAMA)
    assert (found.family, found.architecture, found.kv_heads) == ("llama", "llama", 4)
    assert (found.head_dim, found.attention_scale) == (16, 0.25)
    assert (found.rope_style, found.tied_embeddings, found.activation) == ("halves", False, "silu")
    assert (found.context, found.sliding_window, found.sliding_layers) == (2048, None, ())
    np.testing.assert_allclose(found.rope_frequencies, frequencies(10_000, 16), rtol=1e-6)


def test_head_dim_and_groups_may_be_given() -> None:
    found = config(LLAMA, head_dim=32, num_key_value_heads=2)
    assert (found.head_dim, found.kv_heads, len(found.rope_frequencies)) == (32, 2, 16)
    assert found.attention_scale == 1 / math.sqrt(32)
    assert config(LLAMA, head_dim=None).head_dim == 16
    assert config(LLAMA | {"model_type": "qwen3"}).head_dim == 128


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
        {"rope_theta": 500.0, "rope_parameters": {"rope_type": "linear", "factor": 2.0}},
    ],
)
def test_old_and_new_spellings_of_rope_mean_the_same(spelling: dict[str, object]) -> None:
    found = config(LLAMA, **spelling)
    halved = np.array(frequencies(500, 16)) / 2
    np.testing.assert_allclose(found.rope_frequencies, halved, rtol=1e-6)


def test_mistral_slides_everywhere_unless_it_says_null() -> None:
    mistral = LLAMA | {"model_type": "mistral", "num_key_value_heads": 2}
    assert config(mistral).sliding_window == 4096
    assert config(mistral, sliding_window=8).sliding_layers == (True,) * 4
    assert config(mistral, sliding_window=None).sliding_layers == ()
    assert config(LLAMA, sliding_window=8).sliding_window is None


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_qwen_slides_only_if_told(kind: str) -> None:
    qwen = LLAMA | {"model_type": kind, "sliding_window": 16}
    assert config(qwen).sliding_layers == ()
    found = config(qwen, use_sliding_window=True, max_window_layers=3)
    assert (found.sliding_window, found.sliding_layers) == (16, (False, False, False, True))
    types = ["sliding_attention", "full_attention"] * 2
    found = config(qwen, use_sliding_window=True, layer_types=types)
    assert found.sliding_layers == (True, False, True, False)
    assert config(qwen, use_sliding_window=False, layer_types=types).sliding_layers == ()


@pytest.mark.parametrize(
    "spelling",
    [
        {
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}},
    ],
)
def test_gemma_has_a_near_and_a_far_rotation(spelling: dict[str, object]) -> None:
    found = config(GEMMA, **spelling)
    far = np.array(frequencies(1e6, 32)) / 8
    np.testing.assert_allclose(found.rope_frequencies, far, rtol=1e-6)
    np.testing.assert_allclose(found.local_rope_frequencies, frequencies(1e4, 32), rtol=1e-6)


def test_gemma_scales_and_slides() -> None:
    found = config(GEMMA, query_pre_attn_scalar=144, sliding_window=512)
    assert (found.architecture, found.activation) == ("gemma3", "gelu_tanh")
    assert (found.attention_scale, found.embedding_scale) == (1 / 12, 8.0)
    assert found.sliding_layers == (True,) * 5 + (False, True)
    assert (found.sliding_window, found.tied_embeddings) == (512, True)
    assert config(GEMMA, sliding_window_pattern=2).sliding_layers[:3] == (True, False, True)


def test_the_text_part_of_a_gemma_that_sees_pictures() -> None:
    whole = {"model_type": "gemma3", "text_config": {"hidden_size": 2560, "sliding_window": 1024}}
    found = config_from_json(PATH, whole)
    assert (found.width, found.heads, found.head_dim, found.vocabulary) == (2560, 8, 256, 262_208)
    assert found.embedding_scale == float(np.float32(math.sqrt(2560)))


def test_encoders() -> None:
    found = config(BERT)
    assert (found.family, found.context, found.head, found.position_offset) == (
        "bert", 512, "none", 0,
    )  # fmt: skip
    assert (found.activation, found.attention_scale, found.kv_heads) == ("gelu", 0.25, 4)
    for kind in ("roberta", "xlm-roberta"):
        offset = config(BERT | {"model_type": kind}, pad_token_id=1, max_position_embeddings=514)
        assert (offset.position_offset, offset.context) == (2, 512)


def test_distilbert_has_names_of_its_own() -> None:
    values = {
        "model_type": "distilbert", "vocab_size": 100, "dim": 64, "n_layers": 3, "n_heads": 4,
        "hidden_dim": 96, "activation": "gelu_new", "max_position_embeddings": 128,
        "architectures": ["DistilBertForSequenceClassification"],
        "id2label": {"1": "good", "0": "bad"},
    }  # fmt: skip
    found = config_from_json(PATH, values)
    assert (found.width, found.layers, found.heads, found.ffn) == (64, 3, 4, 96)
    assert (found.activation, found.head_activation) == ("gelu_tanh", "relu")
    assert (found.head, found.labels) == ("sequence", ("bad", "good"))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("BertForMaskedLM", "masked_lm"),
        ("BertForPreTraining", "masked_lm"),
        ("RobertaForTokenClassification", "token"),
        ("XLMRobertaForSequenceClassification", "sequence"),
        ("DistilBertModel", "none"),
    ],
)
def test_heads_are_known_by_the_class(name: str, head: str) -> None:
    found = config(BERT, architectures=[name])
    assert found.head == head
    assert found.labels == (("LABEL_0", "LABEL_1") if head in ("token", "sequence") else ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt_neox"}, "'gpt_neox'; the ones that can be run are bert, "),
        ({"model_type": None}, "model_type is missing"),
        ({"hidden_size": 0}, "hidden_size is 0; it must be a whole number from 1"),
        ({"hidden_size": 64.0}, "hidden_size is 64.0"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"hidden_size": 10**12}, "hidden_size is 1000000000000"),
        ({"num_hidden_layers": 5000}, "num_hidden_layers is 5000"),
        ({"num_attention_heads": 3}, "64 cannot be parted into 3"),
        ({"num_key_value_heads": 3}, "4 heads cannot share 3"),
        ({"head_dim": 5}, "heads of 5 columns"),
        ({"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu'"),
        ({"rms_norm_eps": -1}, "rms_norm_eps is -1"),
        ({"rope_scaling": [1]}, "rope_scaling is"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"rope_theta": "x"}, "rope_theta is 'x'"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        config(LLAMA, **changes)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
        ({"architectures": ["BertForQuestionAnswering"]}, "architectures"),
        ({"architectures": "BertModel"}, "architectures"),
        ({"architectures": ["BertForTokenClassification"], "id2label": {"0": 3}}, "id2label"),
        ({"architectures": ["BertForTokenClassification"], "id2label": {"7": "x"}}, "id2label"),
    ],
)
def test_encoders_that_cannot_be_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        config(BERT, **changes)


def test_layer_types_must_fit() -> None:
    for types in (["sliding_attention"], ["chunked_attention"] * 7):
        with pytest.raises(ModelError, match="layer_types"):
            config(GEMMA, layer_types=types)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@settings(max_examples=200)
@given(
    base=st.sampled_from([LLAMA, BERT, GEMMA]),
    changes=st.dictionaries(
        st.sampled_from([*GEMMA, *BERT, "rope_scaling", "rope_parameters", "layer_types",
                         "sliding_window", "id2label", "rope_theta", "max_position_embeddings"]),
        JSON, min_size=1, max_size=3,
    ),
)  # fmt: skip
def test_any_values_make_a_config_or_a_sentence(
    base: dict[str, object], changes: dict[str, object]
) -> None:
    with suppress(ModelError):
        assert all(map(math.isfinite, config(base, **changes).rope_frequencies))
