"""ONNX Runtime on an encoder's ONNX graph, f32 or int8 (see prepare_peers.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from worker import Encoder, Settings, serve


class OrtEncoder(Encoder):
    """All graph optimisations, which is the default."""

    version = onnxruntime.__version__

    def __init__(self, settings: Settings) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(settings.model, options, providers=providers)

    def embed(self, sentences: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        ids = np.asarray(sentences, np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return self.session.run(None, inputs)[0]


if __name__ == "__main__":
    serve(OrtEncoder)
