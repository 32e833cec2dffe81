"""`overclock simulate`: what is printed, what is written, and what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overclock.cli.main import main
from tests.checkpoints import FIXTURES
from tests.cli.commands import ENCODER, LLAMA, run

SHEET = {
    "read_bandwidth_gbs": {"1": 0.01},
    "f32_gflops": {"1": 0.1},
    "int8_gops": {"1": 0.2},
}
SMALL = ["--prompt", "uniform:1,20", "--output", "fixed:8", "--duration", "20"]


@pytest.fixture
def model(tmp_path: Path) -> list[str]:
    """A tiny model on a slow computer: a few dozen requests of `SMALL` a second."""
    sheet = tmp_path / "sheet.json"
    sheet.write_text(json.dumps(SHEET))
    return ["-m", str(FIXTURES / "llama"), "--computer", str(sheet), "--ideal", *SMALL]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `overclock simulate` in this process."""
    with pytest.raises(SystemExit) as left:
        main(["simulate", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


def test_one_load(model: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, _ = call(capsys, *model, "--rate", "5", "--ttft", "9", "--html", str(page))
    assert code == 0
    assert out.startswith("stable: ")
    assert "the target is met" in out
    rows = [line.split("\t") for line in out.splitlines()]
    assert ["", "mean", "50 %", "95 %", "99 %", "highest"] in rows
    assert any(row[0] == "first token, s" and len(row) == 6 for row in rows)
    assert page.read_text().startswith("<!doctype html>")


def test_json_and_a_seed(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for seed in ("1", "1", "2"):
        code, out, _ = call(capsys, *model, "--rate", "5", "--seed", seed, "--json")
        assert code == 0
        found.append(json.loads(out))
    assert found[0] == found[1] != found[2]
    assert found[0]["stable"] is True
    assert found[0]["capacity"] is None
    assert found[0]["ended"] == found[0]["requests"]
    assert found[0]["first_token_s"]["p50"] <= found[0]["first_token_s"]["p95"]


def test_more_than_can_be_served(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *model, "--rate", "5000", "--duration", "0.5", "--streams", "4")
    assert code == 0
    assert out.startswith("unstable: ")
    code, out, _ = call(
        capsys, *model, "--rate", "5000", "--duration", "0.5", "--streams", "4", "--json"
    )
    record = json.loads(out)
    assert record["stable"] is False
    assert record["capacity"] == pytest.approx(record["throughput"], rel=0.2)


def test_several_loads(
    model: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    code, out, _ = call(capsys, *model, "--sweep", "2,4.5", "--html", str(page))
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["requests/s", "2", "4.5"]
    assert page.read_text().count("<svg") == 3


def test_the_highest_rate(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, *model, "--ttft", "0.5", "--duration", "60", "--json")
    assert code == 0
    found = json.loads(out)
    best = found["best"]
    assert best["first_token_s"]["p95"] <= 0.5
    good = [each for each in found["results"] if each["nominal_rate"] <= best["nominal_rate"]]
    assert len(good) < len(found["results"])
    assert err.count("requests/s") == len(found["results"])


def test_replicas(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *model, "--replicas-for", "30", "--ttft", "0.5")
    assert code == 0
    assert out.splitlines()[-1].endswith("replicas serve 30 requests/s")


def test_a_recorded_load_and_users(
    model: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    load = tmp_path / "load.jsonl"
    lines = [{"at": at, "prompt_tokens": 9, "output_tokens": 4} for at in (0, 1, 2.5)]
    load.write_text("\n".join(map(json.dumps, lines)))
    code, out, _ = call(capsys, *model, "--trace", str(load), "--json")
    assert code == 0
    assert json.loads(out)["requests"] == 3
    code, out, _ = call(
        capsys, *model, "--arrivals", "closed", "--users", "2", "--think", "1", "--json"
    )
    assert code == 0
    assert json.loads(out)["inside"]["max"] <= 2


@pytest.mark.real
def test_for_real(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, err = run(
        *("simulate", *LLAMA, "--validate", "--validate-seconds", "1", "--rate", "8"),
        *("--prompt", "fixed:6", "--output", "fixed:3", "--json", "--html", str(page)),
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    both = found["predicted"], found["measured"]
    assert both[0]["requests"] == both[1]["requests"] > 0
    assert both[0]["ended"] == both[1]["ended"] == both[0]["requests"]
    assert [each["name"] for each in found["comparison"]] == [
        "throughput",
        "tokens of answers",
        *("first token, 50 %", "first token, 95 %", "gap, 50 %", "gap, 95 %"),
    ]
    for each in found["comparison"]:
        assert each["measured"] > 0
        error = each["predicted"] / each["measured"] - 1
        assert each["error"] == pytest.approx(error)
    assert page.read_text().count("<svg") == 3


BAD = [
    [],
    ["--rate", "0"],
    ["--rate", "nan"],
    ["--rate", "1", "--duration", "0"],
    ["--rate", "1", "--prompt", "long"],
    ["--rate", "1", "--output", "uniform:3"],
    ["--rate", "1", "--arrivals", "closed"],
    ["--rate", "1", "--users", "3"],
    ["--arrivals", "closed"],
    ["--arrivals", "closed", "--users", "2", "--replicas-for", "3"],
    ["--arrivals", "burst", "--cv", "0", "--rate", "1"],
    ["--rate", "1", "--profile", "1:1"],
    ["--rate", "1", "--stretch", "1"],
    ["--rate", "1", "--context", "100000000"],
    ["--rate", "1", "--kv-memory", "1"],
    ["--rate", "1", "--ttft", "0"],
    ["--rate", "1", "--gap", "-1"],
    ["--rate", "1", "--ttft", "1", "--percentile", "0"],
    ["--sweep", "1,x"],
    ["--sweep", "0"],
    ["--sweep", "1", "--replicas-for", "3"],
    ["--sweep", "1", "--validate"],
    ["--replicas-for", "-3"],
    ["--rate", "1", "--validate"],  # with --computer
    ["--rate", "1", "--html", "/nowhere/page.html"],
    ["--trace", "/nowhere"],
    ["--rate", "1", "--computer", str(FIXTURES / "llama" / "config.json")],
]


@pytest.mark.parametrize("arguments", BAD)
def test_what_cannot_be_asked(
    model: list[str], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, *model, *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.strip()


def test_an_encoder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, *ENCODER, "--rate", "1")
    assert code == 2
    assert "only language models" in err


def test_a_recorded_load_that_comes_at_once(
    model: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recorded = tmp_path / "load.jsonl"
    line = json.dumps({"at": 0.0, "prompt_tokens": 5, "output_tokens": 3})
    recorded.write_text(f"{line}\n" * 3)
    code, out, _ = call(capsys, *model[:5], "--trace", str(recorded))
    assert code == 0
    assert "3 requests come at once" in out
