"""Adapters with random matrices: made in memory, or written as peft writes them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from overclock.model.adapter import CONFIG, SITES, WEIGHTS, Adapter, LowRank
from overclock.model.formats import Format
from overclock.model.model import Model, Tensor

PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""What an adapter of all linear layers changes."""

MODULES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""What Hugging Face calls them in a Llama."""


def adapter(
    model: Model, parts: Collection[str] = PARTS, *, rank: int = 8, seed: int = 0
) -> Adapter:
    """Changes of all layers, about half as large as what they are added to."""
    random = np.random.default_rng(seed)
    sites = {}
    for name, tensor in model.weights.items():
        if SITES.fullmatch(name) and name.split(".")[2] in parts:
            out, into = tensor.shape
            a = random.normal(0, into**-0.5, (rank, into)).astype(np.float32)
            b = random.normal(0, rank**-0.5, (out, rank)).astype(np.float32)
            sites[name] = LowRank(a, b, 0.5)
    return Adapter(f"random-{seed}", sites)


def merged(model: Model, adapter: Adapter) -> Model:
    """The model with the changes of an adapter in its own matrices, which become F32."""
    weights = dict(model.weights)
    for name, change in adapter.sites.items():
        values = weights[name].dequantize() + change.delta()
        data = values.reshape(-1).view(np.uint8)
        weights[name] = Tensor(name, values.shape, Format.F32, data)
    return replace(model, weights=weights)


def module(site: str) -> str:
    """The module of a Llama that a matrix belongs to."""
    _, layer, part, _ = site.split(".")
    return f"model.layers.{layer}.{MODULES[part]}"


def peft_tensors(adapter: Adapter) -> dict[str, NDArray[np.float32]]:
    """A Llama adapter's matrices by the names that peft gives them."""
    return {
        f"base_model.model.{module(site)}.lora_{letter}.weight": values
        for site, change in adapter.sites.items()
        for letter, values in (("A", change.a), ("B", change.b))
    }


def peft_config(**changes: object) -> dict[str, object]:
    """An adapter_config.json of rank 8 and scale ½; None takes a setting out."""
    config: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 8,
        "lora_alpha": 4,
        "target_modules": [name.split(".")[1] for name in MODULES.values()],
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "lora_dropout": 0.1,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": False,
        "use_rslora": False,
        **changes,
    }
    return {key: value for key, value in config.items() if value is not None}


def write(
    folder: Path, tensors: Mapping[str, NDArray[np.generic]], config: Mapping[str, object]
) -> Path:
    """A directory as peft's save_pretrained makes it."""
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
    return folder
