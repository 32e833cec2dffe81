"""config.json of a Hugging Face checkpoint → Config.

Both spellings of rotary parameters are read: `rope_theta` with `rope_scaling`, and
`rope_parameters` of transformers 5, which may hold one dictionary a kind of layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from overclock.errors import ModelError
from overclock.model.config import (
    GEMMA_LOCAL_THETA,
    GEMMA_PATTERN,
    MAX_CONTEXT,
    MAX_LAYERS,
    activation,
    check_heads,
    gemma_layers,
    gemma_scale,
    head_size,
    refuse_softcapping,
    unknown_architecture,
)
from overclock.model.fields import Fields
from overclock.model.model import Config, Head
from overclock.model.names import DECODERS, ENCODERS
from overclock.model.rope import Rope, rope

_DECODER: Final = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10_000.0}
_QWEN: Final = _DECODER | {"sliding_window": 4096, "max_window_layers": 28}
_ENCODER: Final = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "pad_token_id": 1,
}

DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = {
    "llama": _DECODER | {"max_position_embeddings": 2048},
    "mistral": _DECODER
    | {"max_position_embeddings": 131_072, "sliding_window": 4096, "num_key_value_heads": 8},
    "qwen2": _QWEN | {"max_position_embeddings": 32_768},
    "qwen3": _QWEN | {"max_position_embeddings": 32_768, "head_dim": 128},
    "gemma3_text": {
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "rope_theta": 1_000_000.0,
    },
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "xlm-roberta": _ENCODER,
    "distilbert": _ENCODER,
}
"""What a key is when config.json leaves it out (not when it is null), as transformers has it."""

_DISTILBERT: Final = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}
"""The names DistilBERT gives to what the other encoders have."""

_HEADS: Final[Mapping[str, Head]] = {
    "Model": "none",
    "ForMaskedLM": "masked_lm",
    "ForPreTraining": "masked_lm",
    "ForSequenceClassification": "sequence",
    "ForTokenClassification": "token",
}
_CLASS: Final = re.compile(r"^(?:Bert|Roberta|XLMRoberta|DistilBert)(\w+)$")


def config_from_json(path: Path, values: Mapping[str, object]) -> Config:
    """The Config that `values`, the object in the file `path`, describes.

    Raises ModelError if the architecture is not known or a value makes no sense.
    """
    fields = Fields(path, values)
    architecture = fields.text("model_type")
    if architecture == "gemma3":
        fields, architecture = fields.section("text_config"), "gemma3_text"
    if fields.get("quantization_config"):
        raise ModelError(f"{path} describes quantised weights; fetch the unquantised checkpoint")
    if architecture not in DEFAULTS:
        raise unknown_architecture(path, architecture)
    fields = Fields(path, {**DEFAULTS[architecture], **fields.values})
    if architecture in ENCODERS:
        return _encoder(fields, architecture)
    assert architecture in DECODERS
    return _decoder(fields, architecture)


def _decoder(fields: Fields, architecture: str) -> Config:
    gemma = architecture == "gemma3_text"
    refuse_softcapping(fields)
    if fields.flag("use_bidirectional_attention", default=False):
        raise fields.wrong("use_bidirectional_attention", "false")
    width, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    kv_heads = fields.size("num_key_value_heads", heads)
    given = fields.size("head_dim") if fields.get("head_dim") is not None else None
    head_dim = head_size(fields, width, heads, given)
    check_heads(fields, heads, kv_heads, head_dim)
    layers = fields.size("num_hidden_layers", limit=MAX_LAYERS)
    sliding = _sliding_layers(fields, architecture, layers)
    far, near = _ropes(fields, head_dim, gemma=gemma)
    scalar = fields.number("query_pre_attn_scalar") if gemma else float(head_dim)
    return Config(
        family="llama",
        architecture="gemma3" if gemma else architecture,
        vocabulary=fields.size("vocab_size"),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=fields.size("intermediate_size"),
        context=fields.size("max_position_embeddings", limit=MAX_CONTEXT),
        norm_epsilon=fields.number("rms_norm_eps"),
        activation=activation(fields, "hidden_activation|hidden_act"),
        rope_frequencies=far.frequencies,
        local_rope_frequencies=near.frequencies if near != far and any(sliding) else (),
        sliding_window=fields.size("sliding_window") if any(sliding) else None,
        sliding_layers=sliding if any(sliding) else (),
        attention_scale=far.score_factor / math.sqrt(scalar),
        embedding_scale=gemma_scale(width) if gemma else 1.0,
        tied_embeddings=fields.flag("tie_word_embeddings", default=False),
    )


def _sliding_layers(fields: Fields, architecture: str, layers: int) -> tuple[bool, ...]:
    """Per layer, whether it sees a window only."""
    if fields.get("sliding_window") is None or architecture == "llama":
        return (False,) * layers
    if architecture == "mistral":
        return (True,) * layers
    qwen = architecture != "gemma3_text"
    if qwen and not fields.flag("use_sliding_window", default=False):
        return (False,) * layers
    types = fields.texts("layer_types")
    if types:
        return _layer_types(fields, types, layers)
    if qwen:
        return tuple(layer >= fields.index("max_window_layers", 0) for layer in range(layers))
    pattern = fields.size("sliding_window_pattern|_sliding_window_pattern", GEMMA_PATTERN)
    return gemma_layers(layers, pattern)


def _layer_types(fields: Fields, types: list[str], layers: int) -> tuple[bool, ...]:
    if len(types) != layers or not {"sliding_attention", "full_attention"}.issuperset(types):
        raise fields.wrong("layer_types", f"{layers} times sliding_attention or full_attention")
    return tuple(kind == "sliding_attention" for kind in types)


def _ropes(fields: Fields, head_dim: int, *, gemma: bool) -> tuple[Rope, Rope]:
    """The rotation of layers that see everything, and of sliding layers."""
    near_theta = fields.number("rope_local_base_freq", GEMMA_LOCAL_THETA) if gemma else None
    parameters = fields.section("rope_parameters")
    if "full_attention" in parameters.values or "sliding_attention" in parameters.values:
        far = _rope(fields, parameters.section("full_attention"), head_dim)
        near = parameters.section("sliding_attention")
        return far, _rope(fields, near, head_dim, near_theta)
    scaling = fields.section("rope_scaling|rope_parameters")
    far = _rope(fields, scaling, head_dim)
    return far, _rope(fields, Fields(fields.path, {}), head_dim, near_theta) if gemma else far


def _rope(fields: Fields, scaling: Fields, head_dim: int, theta: float | None = None) -> Rope:
    """The rotation that `scaling` describes, with what it leaves out taken from `fields`."""
    outer = ("partial_rotary_factor", "original_max_position_embeddings")
    values = {key: fields.values[key] for key in outer if key in fields.values}
    scaling = Fields(fields.path, {**values, **scaling.values})
    theta = scaling.number("rope_theta", theta or fields.number("rope_theta"))
    context = fields.size("max_position_embeddings", limit=MAX_CONTEXT)
    return rope(scaling.text("rope_type|type", "default"), scaling, theta, head_dim, context)


def _encoder(fields: Fields, architecture: str) -> Config:
    if architecture == "distilbert":
        renamed = {_DISTILBERT.get(key, key): value for key, value in fields.values.items()}
        fields = Fields(fields.path, renamed)
    _refuse_unusual(fields)
    width, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    head_dim = head_size(fields, width, heads)
    offset = fields.index("pad_token_id", 1) + 1 if architecture.endswith("roberta") else 0
    head = _head(fields)
    return Config(
        family="bert",
        architecture=architecture,
        vocabulary=fields.size("vocab_size"),
        width=width,
        layers=fields.size("num_hidden_layers", limit=MAX_LAYERS),
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        ffn=fields.size("intermediate_size"),
        context=_positions(fields, offset),
        norm_epsilon=fields.number("layer_norm_eps"),
        activation=activation(fields, "hidden_act"),
        attention_scale=1 / math.sqrt(head_dim),
        tied_embeddings=fields.flag("tie_word_embeddings", default=True),
        position_offset=offset,
        head=head,
        head_activation="relu" if architecture == "distilbert" else "tanh",
        labels=_labels(fields) if head in ("sequence", "token") else (),
    )


def _refuse_unusual(fields: Fields) -> None:
    if fields.text("position_embedding_type", "absolute") != "absolute":
        raise fields.wrong("position_embedding_type", "'absolute'")
    for key in ("is_decoder", "add_cross_attention"):
        if fields.flag(key, default=False):
            raise fields.wrong(key, "false: only encoders of this family can be run")


def _positions(fields: Fields, offset: int) -> int:
    rows = fields.size("max_position_embeddings", limit=MAX_CONTEXT)
    if rows <= offset:
        raise fields.wrong("max_position_embeddings", f"larger than {offset}")
    return rows - offset


def _head(fields: Fields) -> Head:
    """What the checkpoint was saved as, by its class; a bare encoder if it names none."""
    classes = fields.texts("architectures")
    if not classes:
        return "none"
    found = _CLASS.match(classes[0])
    if found is None or found[1] not in _HEADS:
        raise fields.wrong("architectures", f"an encoder class: …{', …'.join(_HEADS)}")
    return _HEADS[found[1]]


def _labels(fields: Fields) -> tuple[str, ...]:
    """The names of the classes, in the order of their numbers."""
    names = fields.section("id2label").values or {"0": "LABEL_0", "1": "LABEL_1"}
    labels = tuple(names.get(str(number)) for number in range(len(names)))
    if not all(isinstance(label, str) for label in labels):
        raise fields.wrong("id2label", "names for the numbers from 0 on")
    return tuple(str(label) for label in labels)
