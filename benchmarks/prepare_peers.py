"""Make, once, the model files that some peers need and cannot make themselves.

Run it with the Python of the peers' environment (see README.md):

    python benchmarks/prepare_peers.py --model MODEL.gguf --encoder DIRECTORY --out DIRECTORY

It writes, as far as the packages for it are installed:

    decoder-f32/         the GGUF file's weights in f32, in Hugging Face form (the builder's input)
    decoder-ort-int4/    the same for ONNX Runtime GenAI, 4-bit in groups of 32, int8 activations
    decoder-ct2-int8/    the same for CTranslate2, 8-bit weights, one scale a row
    decoder-q4_0.gguf    the GGUF file with Q4_0 in place of its 4-bit format, for llama.cpp
    encoder-plain.onnx   the encoder with mean pooling and normalisation (OpenVINO reads this)
    encoder-f32.onnx     the same with operators fused (ONNX Runtime's fastest form)
    encoder-int8.onnx    the same after ONNX Runtime's dynamic quantisation
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path


def dequantize_decoder(gguf: Path, out: Path) -> None:
    """The GGUF file as a Hugging Face directory of f32 safetensors."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file(tensors, str(out / "model.safetensors"), metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(out)
    AutoTokenizer.from_pretrained(**source).save_pretrained(out)


def build_ort_genai(decoder: Path, out: Path) -> None:
    """ONNX Runtime GenAI's model: its builder's 4-bit groups of 32 with int8 arithmetic."""
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    options = ["int4_block_size=32", "int4_accuracy_level=4"]
    with tempfile.TemporaryDirectory() as cache:
        words = ["-i", str(decoder), "-o", str(out), "-p", "int4", "-e", "cpu", "-c", cache]
        subprocess.run([*builder, *words, "--extra_options", *options], check=True)


def convert_ctranslate2(decoder: Path, out: Path) -> None:
    """CTranslate2's model, by its own converter."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(decoder)).convert(str(out), quantization="int8")


def requantize_q4_0(gguf: Path, out: Path) -> None:
    """The same model in Q4_0, llama.cpp's fastest format; the embedding stays in Q8_0."""
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    options.allow_requantize = True
    options.output_tensor_type = options.token_embedding_type = llama_cpp.GGML_TYPE_Q8_0
    if code := llama_cpp.llama_model_quantize(str(gguf).encode(), str(out).encode(), options):
        raise RuntimeError(f"llama_model_quantize returned {code}")


def export_encoder(directory: Path, out: Path) -> None:
    """The encoder as an ONNX graph from (input_ids, attention_mask) to sentence embeddings."""
    import torch
    from transformers import AutoModel

    class Sentences(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(directory, attn_implementation="eager")

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids, attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(mean, dim=-1)

    ids = torch.ones((2, 16), dtype=torch.long)
    axes = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        Sentences().eval(),
        (ids, ids),
        str(out),
        input_names=["input_ids", "attention_mask"],
        output_names=["embedding"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def fuse_encoder(plain: Path, directory: Path, out: Path) -> None:
    """ONNX Runtime's offline fusions: attention, embedding, GELU, layer norm with residual."""
    from onnxruntime.transformers import optimizer

    config = json.loads((directory / "config.json").read_text())
    sizes = {"num_heads": config["num_attention_heads"], "hidden_size": config["hidden_size"]}
    optimizer.optimize_model(str(plain), "bert", **sizes, opt_level=1).save_model_to_file(str(out))


def quantize_encoder(f32: Path, out: Path) -> None:
    """ONNX Runtime's dynamic int8 quantisation, one weight scale a column.

    Against one scale a matrix, its default, this costs no speed and a tenth of the error.
    """
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Fused operators are of another domain, whose output types shape inference does not know.
    quantize_dynamic(
        f32,
        out,
        op_types_to_quantize=["MatMul", "Attention"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


def main() -> None:
    """Parse words and make what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="the decoder's GGUF file")
    parser.add_argument("--encoder", type=Path, required=True, help="the encoder's directory")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    out: Path = args.out
    steps: list[tuple[Path, Callable[[Path], None]]] = [
        (out / "decoder-f32", lambda path: dequantize_decoder(args.model, path)),
        (out / "decoder-ort-int4", lambda path: build_ort_genai(out / "decoder-f32", path)),
        (out / "decoder-ct2-int8", lambda path: convert_ctranslate2(out / "decoder-f32", path)),
        (out / "decoder-q4_0.gguf", lambda path: requantize_q4_0(args.model, path)),
        (out / "encoder-plain.onnx", lambda path: export_encoder(args.encoder, path)),
        (
            out / "encoder-f32.onnx",
            lambda path: fuse_encoder(out / "encoder-plain.onnx", args.encoder, path),
        ),
        (out / "encoder-int8.onnx", lambda path: quantize_encoder(out / "encoder-f32.onnx", path)),
    ]
    for path, make in steps:
        if path.exists():
            print(f"{path}: is there")
            continue
        try:
            make(path)
            print(f"{path}: made")
        except Exception:  # noqa: BLE001 - each peer is optional: say why it is missing, go on
            traceback.print_exc()
            print(f"{path}: not made, see above")


if __name__ == "__main__":
    main()
