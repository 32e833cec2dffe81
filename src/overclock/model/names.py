"""Hugging Face names of weights → the canonical names, which are GGUF's.

A name is taken apart into a layer number and the rest; the rest is looked up in the table of the
architecture. Names that no table has are the caller's business, except those that are known to be
of no use here (buffers, vision towers, heads of the pre-training).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from overclock.errors import ModelError
from overclock.model.model import Head

DECODERS: Final = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma3", "gemma3_text"})
ENCODERS: Final = frozenset({"bert", "roberta", "xlm-roberta", "distilbert"})

_PREFIX: Final = re.compile(
    r"^(?:model\.language_model\.|language_model\.model\.|language_model\.|model\."
    r"|bert\.|roberta\.|distilbert\.)"
)
_LAYER: Final = re.compile(r"^(?:layers|encoder\.layer|transformer\.layer)\.(\d{1,4})\.(.+)$")

_USELESS: Final = re.compile(
    r"(?:^|\.)(?:vision_tower|vision_model|multi_modal_projector|seq_relationship)\."
    r"|\.?(?:position_ids|inv_freq|masked_bias|embeddings\.token_type_ids)$"
)
"""Weights of parts that a text model does not run, and buffers that old files keep."""

_DECODER: Final = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}
_DECODER_LAYER: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_LAYER: Final = _DECODER_LAYER | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}

_ENCODER: Final = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_ENCODER_LAYER: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_DISTILBERT_LAYER: Final = {
    "attention.q_lin": "attn_q",
    "attention.k_lin": "attn_k",
    "attention.v_lin": "attn_v",
    "attention.out_lin": "attn_output",
    "sa_layer_norm": "attn_output_norm",
    "ffn.lin1": "ffn_up",
    "ffn.lin2": "ffn_down",
    "output_layer_norm": "layer_output_norm",
}

_HEADS: Final[Mapping[Head, dict[str, str]]] = {
    "none": {},
    "masked_lm": {
        "cls.predictions.transform.dense": "mlm.dense",
        "cls.predictions.transform.LayerNorm": "mlm.norm",
        "cls.predictions.decoder": "mlm.output",
        "cls.predictions": "mlm.output",
        "lm_head.dense": "mlm.dense",
        "lm_head.layer_norm": "mlm.norm",
        "lm_head.decoder": "mlm.output",
        "lm_head": "mlm.output",
        "vocab_transform": "mlm.dense",
        "vocab_layer_norm": "mlm.norm",
        "vocab_projector": "mlm.output",
    },
    "sequence": {
        "pooler.dense": "cls.dense",
        "pre_classifier": "cls.dense",
        "classifier.dense": "cls.dense",
        "classifier.out_proj": "cls.output",
        "classifier": "cls.output",
    },
    "token": {"classifier": "token.output"},
}
_ANY_HEAD: Final = frozenset(name for table in _HEADS.values() for name in table)

_OLD: Final = {"gamma": "weight", "beta": "bias"}
"""What the parameters of a norm were called in files converted from TensorFlow."""


def canonical_name(name: str, architecture: str, head: Head = "none") -> str | None:
    """The canonical name of the weight that Hugging Face calls `name`.

    None for a weight that a model of this `architecture` with this `head` has no use for.
    Raises ModelError for a name that is not known.
    """
    if _USELESS.search(name):
        return None
    module, _, parameter = _PREFIX.sub("", name).rpartition(".")
    parameter = _OLD.get(parameter, parameter)
    found = _LAYER.match(module)
    layer, module = ("", module) if found is None else (f"blk.{int(found[1])}.", found[2])
    table = _table(architecture, head, in_layer=bool(layer))
    if parameter in ("weight", "bias") and module in table:
        return f"{layer}{table[module]}.{parameter}"
    if architecture in ENCODERS and not layer and module in _ANY_HEAD:
        return None
    raise ModelError(
        f"weight {name!r} is not part of a {architecture} model as it is known here; "
        "a file with changes to the architecture cannot be run"
    )


def _table(architecture: str, head: Head, *, in_layer: bool) -> Mapping[str, str]:
    if architecture in DECODERS:
        layer = _GEMMA_LAYER if architecture.startswith("gemma3") else _DECODER_LAYER
        return layer if in_layer else _DECODER
    if in_layer:
        return _DISTILBERT_LAYER if architecture == "distilbert" else _ENCODER_LAYER
    return _ENCODER | _HEADS[head]


def canonical_names(
    names: Iterable[str], architecture: str, head: Head, *, tied: bool
) -> dict[str, str]:
    """Canonical name → the name in the file, for all weights that the model uses.

    `tied`: the output matrix is the embedding, and a stored copy of it is left out. A bias that
    is stored under two names, as masked-language heads do, is taken from the shorter one.
    """
    found: dict[str, str] = {}
    for name in sorted(names, key=len, reverse=True):
        canonical = canonical_name(name, architecture, head)
        if canonical is None or (tied and canonical in ("output.weight", "mlm.output.weight")):
            continue
        found[canonical] = name
    return found


_GGUF_ENCODER: Final = {
    f"{old}.{parameter}": f"{new}.{parameter}"
    for (old, new), parameter in product(
        {"cls": "cls.dense", "cls.output": "cls.output"}.items(), ("weight", "bias")
    )
}


def gguf_names(names: Iterable[str], family: str) -> Iterator[tuple[str, str]]:
    """Pairs of canonical name and name in the GGUF file, for the weights that a model uses.

    They differ in the classification head only; ``rope_freqs`` are part of the configuration.
    """
    for name in names:
        if not name.startswith("rope_"):
            yield (_GGUF_ENCODER.get(name, name) if family == "bert" else name), name
