"""overclock on an encoder, from token ids. Options: weights=int8, exact=1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from worker import Encoder, Settings, serve, version

from overclock.machine.machine import Batch
from overclock.machine.native import NativeMachine
from overclock.model.formats import Format
from overclock.model.load import load
from overclock.program.compiler import compile


class OurEncoder(Encoder):
    """What `overclock.Encoder` does after it has tokenised."""

    version = version("overclock")

    def __init__(self, settings: Settings) -> None:
        model = load(settings.model)
        wanted = Format.I8 if settings.options.get("weights") == "int8" else None
        exact = settings.options.get("exact") == "1"
        self.machine = NativeMachine(settings.threads)
        self.machine.load(compile(model, exact=exact, weight_format=wanted), model.weights, pages=0)

    def embed(self, sentences: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        count = len(sentences)
        ids = np.asarray(sentences, np.int32)
        batch = Batch(
            token_ids=ids.reshape(-1),
            starts=np.arange(count + 1, dtype=np.int32) * ids.shape[1],
            contexts=np.zeros(count, np.int32),
            pages=np.zeros((count, 0), np.int32),
            output_rows=np.zeros(0, np.int32),
            output="embedding",
        )
        return self.machine.run(batch)


if __name__ == "__main__":
    serve(OurEncoder)
