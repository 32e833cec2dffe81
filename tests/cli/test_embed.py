"""`overclock embed`: where texts come from and where vectors go."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from overclock import Encoder
from tests.checkpoints import FIXTURES
from tests.cli.commands import ENCODER, run, start

TEXTS = ["a cat", "a dog"]


@pytest.fixture(scope="module")
def expected() -> NDArray[np.float32]:
    with Encoder(FIXTURES / "bert-mean", machine="reference") as encoder:
        return encoder.embed(TEXTS)


def test_numbers_with_tabs_when_piped(expected: NDArray[np.float32]) -> None:
    code, out, _ = run("embed", *TEXTS, *ENCODER)
    assert code == 0
    found = [[float(number) for number in line.split("\t")] for line in out.splitlines()]
    assert np.allclose(found, expected, atol=1e-5)


def test_json(expected: NDArray[np.float32]) -> None:
    code, out, _ = run("embed", *TEXTS, *ENCODER, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["width"] == expected.shape[1]
    assert np.allclose(found["embeddings"], expected, atol=1e-5)


def test_lines_of_a_file_and_of_stdin(tmp_path: Path, expected: NDArray[np.float32]) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("a cat\n\na dog\n")
    for argument, stdin in ((str(file), b""), ("-", file.read_bytes())):
        code, out, _ = run("embed", argument, *ENCODER, "--json", stdin=stdin)
        assert code == 0
        assert np.allclose(json.loads(out)["embeddings"], expected, atol=1e-5)


def test_npy_to_a_file_and_to_stdout(tmp_path: Path, expected: NDArray[np.float32]) -> None:
    code, out, _ = run("embed", *TEXTS, *ENCODER, "-o", str(tmp_path / "v.npy"))
    assert (code, out) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["v.npy"]
    found = np.load(tmp_path / "v.npy")
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)
    with start("embed", *TEXTS, *ENCODER, "-o", "-") as process:
        data, _ = process.communicate(timeout=60)
    assert np.allclose(np.load(io.BytesIO(data)), expected, atol=1e-6)


def test_int8_is_close(expected: NDArray[np.float32]) -> None:
    code, out, _ = run("embed", *TEXTS, *ENCODER, "--json", "--int8")
    assert code == 0
    assert np.allclose(json.loads(out)["embeddings"], expected, atol=0.05)
