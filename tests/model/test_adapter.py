"""Adapters: what peft writes is read as it means it, and what cannot be run is refused."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overclock.errors import ModelError
from overclock.model.adapter import CONFIG, PICKLE, WEIGHTS, Adapter, load_adapter
from tests import adapters
from tests.machine import rig

LLAMA = rig.model("llama")
SITE = "blk.1.attn_v.weight"
V = "base_model.model.model.layers.1.self_attn.v_proj"


def saved(folder: Path, **changes: object) -> Path:
    """A random adapter of the fixture `llama`, with other settings."""
    tensors = adapters.peft_tensors(adapters.adapter(LLAMA))
    return adapters.write(folder / "tuned", tensors, adapters.peft_config(**changes))


def with_tensors(folder: Path, changes: dict[str, Any]) -> Path:
    """The same with other tensors; None takes one out."""
    tensors: dict[str, Any] = {**adapters.peft_tensors(adapters.adapter(LLAMA)), **changes}
    kept = {name: values for name, values in tensors.items() if values is not None}
    return adapters.write(folder / "tuned", kept, adapters.peft_config())


def assert_same(loaded: Adapter, wanted: Adapter) -> None:
    assert loaded.sites.keys() == wanted.sites.keys()
    for site, change in wanted.sites.items():
        np.testing.assert_array_equal(loaded.sites[site].a, change.a)
        np.testing.assert_array_equal(loaded.sites[site].b, change.b)
        assert loaded.sites[site].scale == change.scale


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    loaded = load_adapter(saved(tmp_path), LLAMA)
    assert_same(loaded, adapters.adapter(LLAMA))
    assert loaded.name == "tuned"
    assert load_adapter(tmp_path / "tuned", LLAMA, "mine").name == "mine"
    change = loaded.sites[SITE]
    assert (change.rank, change.shape) == (8, LLAMA.weights[SITE].shape)
    assert loaded.bytes == sum(4 * 8 * sum(c.shape) for c in loaded.sites.values())
    np.testing.assert_allclose(change.delta(), 0.5 * change.b @ change.a, atol=1e-6)


def test_sixteen_bits_are_read(tmp_path: Path) -> None:
    a = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float16)
    folder = with_tensors(tmp_path, {f"{V}.lora_A.weight": a})
    np.testing.assert_array_equal(load_adapter(folder, LLAMA).sites[SITE].a, a.astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"lora_alpha": 16}, 2.0),
        ({"lora_alpha": 2.5}, 2.5 / 8),
        ({"lora_alpha": 4, "use_rslora": True}, 4 / math.sqrt(8)),
        ({"alpha_pattern": {"v_proj": 3}}, 3 / 8),
        ({"alpha_pattern": {"layers.0.self_attn.v_proj": 3}}, 0.5),
        ({"alpha_pattern": {"proj": 3, "rev_proj": 3, "q_proj": 3}}, 0.5),
        ({"alpha_pattern": {r"^model\.layers.1.self_attn.v_proj$": 3, "v_proj": 5}}, 3 / 8),
        ({"alpha_pattern": {"layers.1.self_attn.v_proj": 3}, "use_rslora": True}, 3 / math.sqrt(8)),
        ({"target_modules": "all-linear"}, 0.5),
        (
            {"target_modules": [adapters.module(site) for site in adapters.adapter(LLAMA).sites]},
            0.5,
        ),
    ],
)
def test_scales(tmp_path: Path, settings: dict[str, object], scale: float) -> None:
    assert load_adapter(saved(tmp_path, **settings), LLAMA).sites[SITE].scale == scale


@pytest.mark.parametrize("stabilised", [False, True])
def test_a_rank_of_its_own(tmp_path: Path, stabilised: bool) -> None:
    tensors: dict[str, Any] = adapters.peft_tensors(adapters.adapter(LLAMA))
    tensors[f"{V}.lora_A.weight"] = tensors[f"{V}.lora_A.weight"][:2]
    tensors[f"{V}.lora_B.weight"] = tensors[f"{V}.lora_B.weight"][:, :2].copy()
    config = adapters.peft_config(rank_pattern={"1.self_attn.v_proj": 2}, use_rslora=stabilised)
    change = load_adapter(adapters.write(tmp_path / "a", tensors, config), LLAMA).sites[SITE]
    assert (change.rank, change.scale) == (2, 4 / math.sqrt(2) if stabilised else 2)
    config = adapters.peft_config(rank_pattern={"0.self_attn.v_proj": 2})
    with pytest.raises(ModelError, match=r"lora_A.weight has the shape \[8, 32\], but its rank"):
        load_adapter(adapters.write(tmp_path / "a", tensors, config), LLAMA)


def test_rows_of_q_and_k_are_where_the_model_has_them(tmp_path: Path) -> None:
    """A matrix of the GGUF file is that of the checkpoint with its rows in another order."""
    folder, other = saved(tmp_path), rig.model("llama-gguf")
    ours, theirs = load_adapter(folder, other), load_adapter(folder, LLAMA)
    for site in theirs.sites:
        theirs_w, ours_w = (each.weights[site].dequantize() for each in (LLAMA, other))
        order = [int(np.flatnonzero((theirs_w == row).all(axis=1))[0]) for row in ours_w]
        assert (order != sorted(order)) == ("attn_q" in site or "attn_k" in site)
        np.testing.assert_array_equal(ours.sites[site].b, theirs.sites[site].b[order])
        np.testing.assert_array_equal(ours.sites[site].a, theirs.sites[site].a)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "an adapter of type IA3 cannot be used; only LoRA"),
        ({"use_dora": True}, "use_dora cannot be used, since DoRA scales"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out cannot be used"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save cannot be used, since it brings"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"lora_bias": True}, "lora_bias"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"kasa_config": {"beta": 1.0}}, "kasa_config"),
        ({"bias": "lora_only"}, r"trained biases \('lora_only'\)"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4' changed its base model"),
        ({"init_lora_weights": "OLoRA"}, "changed its base model"),
        ({"r": None}, "r is missing"),
        ({"r": 0}, "r is 0; it must be a whole number from 1 to 4096"),
        ({"r": 1 << 20}, "r is 1048576"),
        ({"r": 8.0}, "r is 8.0"),
        ({"lora_alpha": "16"}, "lora_alpha is '16'; it must be a positive number"),
        ({"lora_alpha": -1}, "lora_alpha is -1"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes'"),
        ({"rank_pattern": {"v_proj": 0}}, "v_proj is 0"),
        ({"rank_pattern": {"(.*a)*b": 4}}, r"the pattern '\(\.\*a\)\*b' is a regular expression"),
        ({"alpha_pattern": {"v_proj|q_proj": 4}}, "name the modules one by one"),
        ({"alpha_pattern": ["v_proj"]}, "alpha_pattern is .* must be an object"),
        ({"target_modules": ["q_proj"]}, "has matrices, but target_modules does not name it"),
        ({"target_modules": [3]}, "target_modules is .* a list of strings"),
    ],
)
def test_other_settings_are_refused(
    tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load_adapter(saved(tmp_path, **settings), LLAMA)


NOT_FINITE = np.full((8, 32), 1, np.float32)
NOT_FINITE[3, 4] = np.nan


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{V}.lora_B.weight": None}, "v_proj has a matrix A, but not the other one"),
        ({f"{V}.lora_A.weight": None}, "v_proj has a matrix B, but not the other one"),
        (
            {f"{V}.lora_A.weight": np.zeros((8, 48), np.float32)},
            r"lora_A.weight has the shape \[8, 48\], but its rank and .*llama ask for \[8, 32\]",
        ),
        ({f"{V}.lora_A.weight": np.zeros((4, 32), np.float32)}, r"ask for \[8, 32\]"),
        ({f"{V}.lora_B.weight": np.zeros((8, 32), np.float32)}, r"ask for \[32, 8\]"),
        ({f"{V}.lora_B.weight": np.zeros((32, 8, 1), np.float32)}, r"shape \[32, 8, 1\]"),
        ({f"{V}.lora_A.weight": NOT_FINITE}, "lora_A.weight holds a number that is not finite"),
        ({f"{V}.lora_A.weight": np.zeros((8, 32), np.int8)}, "stored as I8; convert"),
        ({f"{V}.lora_magnitude_vector": np.zeros(32, np.float32)}, "is no matrix A or B"),
        ({f"{V}.lora_A.bias": np.zeros(8, np.float32)}, "is no matrix A or B"),
        ({"lm_head.weight": np.zeros((4, 4), np.float32)}, "'lm_head.weight' is no matrix A or B"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_adapter(with_tensors(tmp_path, changes), LLAMA)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.layers.2.self_attn.v_proj", "llama does not have; it is an adapter of another"),
        ("lm_head", "changes lm_head; only the matrices of attention"),
        ("model.embed_tokens", "changes model.embed_tokens; only the matrices"),
        ("model.layers.0.input_layernorm", "only the matrices"),
        ("model.vision_tower.q_proj", "only the matrices"),
        ("model.layers.0.mixer.in_proj", "is not part of a llama model"),
    ],
)
def test_other_modules_are_refused(tmp_path: Path, name: str, words: str) -> None:
    both = {"A": np.zeros((8, 32), np.float32), "B": np.zeros((32, 8), np.float32)}
    tensors = {f"base_model.model.{name}.lora_{key}.weight": each for key, each in both.items()}
    config = adapters.peft_config(target_modules="all-linear")
    with pytest.raises(ModelError, match=words):
        load_adapter(adapters.write(tmp_path / "a", tensors, config), LLAMA)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="adapter of another model"):
        load_adapter(saved(tmp_path), rig.model("llama3"))


def test_incomplete_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no adapter_config.json: it is not an adapter's"):
        load_adapter(tmp_path, LLAMA)
    folder = saved(tmp_path)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"no adapter_model.safetensors: it is not a complete"):
        load_adapter(folder, LLAMA)
    (folder / PICKLE).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"holds adapter_model.bin, a format that may run code"):
        load_adapter(folder, LLAMA)
    adapters.write(folder, {}, adapters.peft_config())
    with pytest.raises(ModelError, match="the adapter is empty"):
        load_adapter(folder, LLAMA)


def test_an_encoders_adapter_is_read(tmp_path: Path) -> None:
    bert = rig.model("bert")
    name = "base_model.model.bert.encoder.layer.1.attention.self.query"
    tensors = {
        f"{name}.lora_A.weight": np.ones((8, 32), np.float32),
        f"{name}.lora_B.weight": np.ones((32, 8), np.float32),
    }
    config = adapters.peft_config(target_modules=["query"])
    loaded = load_adapter(adapters.write(tmp_path / "a", tensors, config), bert)
    assert list(loaded.sites) == ["blk.1.attn_q.weight"]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files_are_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    folder = saved(tmp_path)
    path = folder / data.draw(st.sampled_from([CONFIG, WEIGHTS]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 4000) - 1))] = data.draw(
            st.integers(0, 255)
        )
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(ModelError):
        load_adapter(folder, LLAMA)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(sorted(adapters.peft_config())),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
)
def test_strange_settings_are_refused_or_read(tmp_path: Path, key: str, value: object) -> None:
    folder = saved(tmp_path)
    (folder / CONFIG).write_text(json.dumps({**adapters.peft_config(), key: value}))
    with suppress(ModelError):
        load_adapter(folder, LLAMA)
