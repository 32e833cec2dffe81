"""Probes are as large as was asked for, spread in size, and nobody's model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import ModelError
from overclock.model.formats import Format
from overclock.model.model import Model
from overclock.predict import probes
from overclock.predict.kernels import RowWork, works
from overclock.predict.probes import DECODERS, ENCODERS, MOST_LAYERS, Sizes
from overclock.program.compiler import compile

FORMATS = (Format.F32, Format.F16, Format.Q8_0, Format.Q4_K)
FAMILIES = st.sampled_from(
    [("llama", sizes) for sizes in DECODERS] + [("bert", sizes) for sizes in ENCODERS]
)
MOST = 8 << 20


def made(family: str, sizes: Sizes, format: Format, size: int) -> Model:
    if family == "bert":
        return probes.encoder(sizes, format, size)
    return probes.decoder(sizes, format, Format.F16, size)


def layer_bytes(model: Model) -> list[int]:
    """Bytes of each layer's matrices, counted from its tensors."""
    found = [0] * model.config.layers
    for name, tensor in model.weights.items():
        if name.startswith("blk.") and len(tensor.shape) == 2:
            found[int(name.split(".")[1])] += tensor.data.nbytes
    return found


@given(FAMILIES, st.sampled_from(FORMATS), st.integers(1, MOST))
def test_layers_are_so_many_bytes_together(
    kind: tuple[str, Sizes], format: Format, size: int
) -> None:
    each = layer_bytes(made(*kind, format, size))
    assert min(each) == max(each)
    if 2 < len(each) < MOST_LAYERS:
        assert sum(each) <= size < sum(each) + each[0]
    elif len(each) == 2:
        assert size < 3 * each[0]
    else:
        assert size >= sum(each)


@pytest.mark.parametrize(("family", "probed"), [("llama", DECODERS), ("bert", ENCODERS)])
def test_sizes_tell_a_run_a_panel_and_a_product_apart(
    family: str, probed: tuple[Sizes, ...]
) -> None:
    features: dict[str, list[tuple[float, ...]]] = {}
    for sizes in probed:
        for work in works(compile(made(family, sizes, Format.Q8_0, 1)), "f16"):
            if isinstance(work, RowWork):
                features.setdefault(work.key, []).append((1.0, *work.sizes))
    assert len([key for key in features if key.startswith("matmul/Q8_0")]) >= 2
    for key, found in features.items():
        columns = np.array(sorted(set(found)))
        columns /= np.linalg.norm(columns, axis=0)
        assert np.linalg.cond(columns) < 50, key


@pytest.mark.parametrize("kind", [("llama", DECODERS[0]), ("bert", ENCODERS[0])])
def test_a_probe_compiles_and_has_no_text(kind: tuple[str, Sizes]) -> None:
    model = made(*kind, Format.Q8_0, 1)
    assert compile(model).context == probes.CONTEXT
    assert not any(tensor.data.any() for tensor in model.weights.values())
    with pytest.raises(ModelError, match="a probe has no text"):
        model.text.get()
