"""OpenVINO on an encoder's ONNX graph (the plain one, without ONNX Runtime's own operators).

Option: precision=f32|bf16. It is f32 unless asked otherwise: on processors with bfloat16 OpenVINO
would choose that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino
from worker import Encoder, Settings, serve


class OpenVinoEncoder(Encoder):
    """One inference request, tuned for latency, which is what a single caller wants."""

    version = openvino.__version__

    def __init__(self, settings: Settings) -> None:
        config = {
            "INFERENCE_NUM_THREADS": settings.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": settings.options.get("precision", "f32"),
        }
        self.request = (
            openvino.Core().compile_model(settings.model, "CPU", config).create_infer_request()
        )

    def embed(self, sentences: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        ids = np.asarray(sentences, np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return next(iter(self.request.infer(inputs).values()))


if __name__ == "__main__":
    serve(OpenVinoEncoder)
