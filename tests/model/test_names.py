"""Names of weights, old and new, with and without prefixes."""

from __future__ import annotations

import pytest

from overclock.errors import ModelError
from overclock.model.model import Head
from overclock.model.names import canonical_name, canonical_names, gguf_names


@pytest.mark.parametrize(
    ("name", "architecture", "wanted"),
    [
        ("model.embed_tokens.weight", "llama", "token_embd.weight"),
        ("embed_tokens.weight", "llama", "token_embd.weight"),
        ("model.norm.weight", "mistral", "output_norm.weight"),
        ("lm_head.weight", "qwen2", "output.weight"),
        ("model.layers.0.input_layernorm.weight", "llama", "blk.0.attn_norm.weight"),
        ("layers.10.post_attention_layernorm.weight", "llama", "blk.10.ffn_norm.weight"),
        ("model.layers.7.self_attn.q_proj.bias", "qwen2", "blk.7.attn_q.bias"),
        ("model.layers.7.self_attn.k_norm.weight", "qwen3", "blk.7.attn_k_norm.weight"),
        ("model.layers.1.mlp.down_proj.weight", "llama", "blk.1.ffn_down.weight"),
        ("model.layers.1.self_attn.o_proj.weight", "llama", "blk.1.attn_output.weight"),
        ("model.layers.2.post_attention_layernorm.weight", "gemma3",
         "blk.2.post_attention_norm.weight"),
        ("model.layers.2.pre_feedforward_layernorm.weight", "gemma3", "blk.2.ffn_norm.weight"),
        ("language_model.model.layers.2.post_feedforward_layernorm.weight", "gemma3",
         "blk.2.post_ffw_norm.weight"),
        ("model.language_model.layers.2.mlp.up_proj.weight", "gemma3", "blk.2.ffn_up.weight"),
        ("language_model.lm_head.weight", "gemma3", "output.weight"),
        ("model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", "gemma3", None),
        ("multi_modal_projector.mm_input_projection_weight", "gemma3", None),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "llama", None),
        ("bert.embeddings.word_embeddings.weight", "bert", "token_embd.weight"),
        ("embeddings.position_embeddings.weight", "bert", "position_embd.weight"),
        ("bert.embeddings.LayerNorm.gamma", "bert", "token_embd_norm.weight"),
        ("bert.embeddings.LayerNorm.beta", "bert", "token_embd_norm.bias"),
        ("embeddings.position_ids", "bert", None),
        ("roberta.encoder.layer.3.attention.self.query.bias", "roberta", "blk.3.attn_q.bias"),
        ("encoder.layer.3.attention.output.dense.weight", "bert", "blk.3.attn_output.weight"),
        ("encoder.layer.3.attention.output.LayerNorm.weight", "bert",
         "blk.3.attn_output_norm.weight"),
        ("encoder.layer.3.intermediate.dense.weight", "bert", "blk.3.ffn_up.weight"),
        ("encoder.layer.3.output.LayerNorm.gamma", "bert", "blk.3.layer_output_norm.weight"),
        ("bert.pooler.dense.weight", "bert", None),
        ("cls.seq_relationship.weight", "bert", None),
        ("distilbert.transformer.layer.5.attention.out_lin.weight", "distilbert",
         "blk.5.attn_output.weight"),
        ("distilbert.transformer.layer.5.sa_layer_norm.bias", "distilbert",
         "blk.5.attn_output_norm.bias"),
        ("transformer.layer.5.ffn.lin2.weight", "distilbert", "blk.5.ffn_down.weight"),
    ],
)  # fmt: skip
def test_bodies(name: str, architecture: str, wanted: str | None) -> None:
    assert canonical_name(name, architecture) == wanted


@pytest.mark.parametrize(
    ("name", "head", "wanted"),
    [
        ("cls.predictions.transform.dense.weight", "masked_lm", "mlm.dense.weight"),
        ("cls.predictions.transform.LayerNorm.beta", "masked_lm", "mlm.norm.bias"),
        ("cls.predictions.bias", "masked_lm", "mlm.output.bias"),
        ("cls.predictions.decoder.weight", "masked_lm", "mlm.output.weight"),
        ("lm_head.dense.bias", "masked_lm", "mlm.dense.bias"),
        ("lm_head.layer_norm.weight", "masked_lm", "mlm.norm.weight"),
        ("lm_head.bias", "masked_lm", "mlm.output.bias"),
        ("vocab_transform.weight", "masked_lm", "mlm.dense.weight"),
        ("vocab_projector.bias", "masked_lm", "mlm.output.bias"),
        ("bert.pooler.dense.bias", "masked_lm", None),
        ("bert.pooler.dense.bias", "sequence", "cls.dense.bias"),
        ("pre_classifier.weight", "sequence", "cls.dense.weight"),
        ("classifier.dense.weight", "sequence", "cls.dense.weight"),
        ("classifier.out_proj.bias", "sequence", "cls.output.bias"),
        ("classifier.weight", "sequence", "cls.output.weight"),
        ("classifier.weight", "token", "token.output.weight"),
        ("cls.predictions.bias", "token", None),
    ],
)
def test_heads(name: str, head: Head, wanted: str | None) -> None:
    assert canonical_name(name, "bert", head) == wanted


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("model.layers.0.self_attn.sinks", "llama"),
        ("model.layers.0.mlp.experts.3.up_proj.weight", "mistral"),
        ("model.layers.99999.input_layernorm.weight", "llama"),
        ("model.layers.0.input_layernorm.scale", "llama"),
        ("qa_outputs.weight", "bert"),
        ("weight", "bert"),
        ("", "llama"),
    ],
)
def test_weights_that_change_the_model_are_refused(name: str, architecture: str) -> None:
    with pytest.raises(ModelError, match="not part of a"):
        canonical_name(name, architecture)


def test_tied_outputs_are_left_out_and_biases_taken_once() -> None:
    names = [
        "cls.predictions.decoder.bias",
        "cls.predictions.bias",
        "cls.predictions.decoder.weight",
        "bert.embeddings.word_embeddings.weight",
    ]
    tied = canonical_names(names, "bert", "masked_lm", tied=True)
    assert tied == {
        "token_embd.weight": "bert.embeddings.word_embeddings.weight",
        "mlm.output.bias": "cls.predictions.bias",
    }
    free = canonical_names(names, "bert", "masked_lm", tied=False)
    assert free["mlm.output.weight"] == "cls.predictions.decoder.weight"
    assert canonical_names(["lm_head.weight"], "llama", "none", tied=True) == {}


def test_gguf_classifiers_get_their_names() -> None:
    names = ["cls.weight", "cls.output.bias", "token_embd.weight", "rope_freqs.weight"]
    assert dict(gguf_names(names, "bert")) == {
        "cls.dense.weight": "cls.weight",
        "cls.output.bias": "cls.output.bias",
        "token_embd.weight": "token_embd.weight",
    }
