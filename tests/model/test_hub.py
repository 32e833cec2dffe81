"""Models from a hub on a real socket, by the real client library, in processes of their own.

The library reads HF_ENDPOINT and HF_HUB_OFFLINE when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from overclock.errors import SourceError
from overclock.model.hub import choose
from overclock.model.origin import Repository
from tests.model.gguf_writer import tiny_llama
from tests.model.servers import Site, add_repository, serving

FIXTURE = Path(__file__).parents[1] / "fixtures" / "llama3"
GGUF = tiny_llama().bytes() + os.urandom(200_000)
CHECKPOINT = {path.name: path.read_bytes() for path in FIXTURE.iterdir() if path.suffix != ".npz"}
NOISE = {"README.md": b"read me", "pytorch_model.bin": b"no", "onnx/model.onnx": b"no"}

SCRIPT = """
import json, sys
from overclock.errors import SourceError
from overclock.model import cache, source
told = []
try:
    record = source.pull(sys.argv[1], progress=lambda *news: told.append(news))
    if source.resolve(sys.argv[1]) != __import__("pathlib").Path(record.path):
        raise SystemExit("resolve gives another path")
    print(json.dumps({"path": record.path, "bytes": record.bytes, "told": told}))
except SourceError as error:
    print(json.dumps({"error": str(error)}))
"""


@dataclass
class Hub:
    site: Site
    folder: Path

    def run(self, name: str, **environment: str) -> dict[str, object]:
        """What pulling `name` gives, or the error."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, name],
            env=kept
            | {
                "HF_ENDPOINT": self.site.url,
                "HF_HOME": str(self.folder / "hf"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "OVERCLOCK_CACHE": str(self.folder / "cache"),
            }
            | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    def path(self, name: str, **environment: str) -> Path:
        """Where the model is."""
        answer = self.run(name, **environment)
        assert "path" in answer, answer
        return Path(str(answer["path"]))

    def error(self, name: str, **environment: str) -> str:
        """The sentence that comes instead of a model."""
        answer = self.run(name, **environment)
        assert "error" in answer, answer
        return str(answer["error"])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(Site()) as site:
        yield Hub(site, tmp_path)


def test_a_checkpoint_comes_without_other_frameworks_files(hub: Hub) -> None:
    add_repository(hub.site, "owner/tiny", CHECKPOINT | NOISE)
    answer = hub.run("hf:owner/tiny")
    folder = Path(str(answer["path"]))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CHECKPOINT
    assert answer["bytes"] == sum(map(len, CHECKPOINT.values()))
    told = answer["told"]
    assert isinstance(told, list)
    assert told[-1][1:] == [answer["bytes"]] * 2


def test_a_single_gguf_is_found_and_one_of_several_is_chosen(hub: Hub) -> None:
    add_repository(hub.site, "owner/one", {"tiny.gguf": GGUF} | NOISE)
    assert hub.path("hf:owner/one").read_bytes() == GGUF
    add_repository(hub.site, "owner/two", {"a-Q4.gguf": GGUF, "b-Q8.gguf": GGUF[::-1]})
    assert "add a colon and one of a-Q4.gguf, b-Q8.gguf" in hub.error("hf:owner/two")
    path = hub.path("hf:owner/two:b-Q8.gguf")
    assert (path.name, path.read_bytes()) == ("b-Q8.gguf", GGUF[::-1])


def test_a_broken_transfer_goes_on_where_it_stopped(hub: Hub) -> None:
    data = GGUF + bytes(12 << 20)
    add_repository(hub.site, "owner/one", {"tiny.gguf": data})
    hub.site.cut_after = [11 << 20]
    assert hub.path("hf:owner/one").read_bytes() == data
    ranges = [r for method, path, r in hub.site.requests if method == "GET" and "elsewhere" in path]
    assert ranges == [
        "",
        f"bytes={10 << 20}-",
    ]  # the client keeps what is there in pieces of 10 MiB


def test_content_that_is_not_what_was_announced_is_refused(hub: Hub) -> None:
    add_repository(hub.site, "owner/one", {"tiny.gguf": GGUF})
    for path, reply in hub.site.pages.items():
        if path.startswith("/elsewhere/"):
            reply.body = bytes(len(GGUF))
    assert "was expected" in hub.error("hf:owner/one")
    assert not list((hub.folder / "cache").rglob("overclock.json"))


def test_offline_what_is_here_is_used_and_nothing_asked(hub: Hub) -> None:
    add_repository(hub.site, "owner/one", {"tiny.gguf": GGUF})
    assert "HF_HUB_OFFLINE" in hub.error("hf:owner/one", HF_HUB_OFFLINE="1")
    assert hub.site.requests == []
    path = hub.path("hf:owner/one")
    hub.site.requests.clear()
    assert hub.path("hf:owner/one", HF_HUB_OFFLINE="1") == path
    assert hub.site.requests == []


def test_a_newer_commit_is_pulled_but_not_run_unasked(hub: Hub) -> None:
    add_repository(hub.site, "owner/one", {"tiny.gguf": GGUF})
    old = hub.path("hf:owner/one")
    add_repository(hub.site, "owner/one", {"tiny.gguf": GGUF[::-1]}, commit="f" * 40)
    new = hub.path("hf:owner/one")
    assert new != old
    assert new.read_bytes() == GGUF[::-1]


def test_a_revision_can_be_named(hub: Hub) -> None:
    add_repository(hub.site, "owner/one", {"tiny.gguf": GGUF}, revision="v2")
    assert hub.path("hf:owner/one@v2").read_bytes() == GGUF


def test_what_is_not_there_is_told(hub: Hub) -> None:
    add_repository(hub.site, "owner/none", NOISE)
    assert "no GGUF file and no config.json" in hub.error("hf:owner/none")
    assert "has no file x.gguf" in hub.error("hf:owner/none:x.gguf")
    assert "hf:owner/missing" in hub.error("hf:owner/missing")


def test_a_hub_out_of_reach_is_told(hub: Hub) -> None:
    message = hub.error("hf:owner/one", HF_ENDPOINT="http://127.0.0.1:9")
    assert "hf:owner/one cannot be fetched" in message
    assert "check the network" in message


def test_choosing() -> None:
    names = ["config.json", "model.safetensors", "tf_model.h5", "a.gguf", "1_Pooling/config.json"]
    names += ["chat_template.jinja", "onnx/config.json", "model-00001-of-2.safetensors"]
    wanted = choose(names, Repository("o/n"))
    assert wanted == [
        "config.json", "model.safetensors", "1_Pooling/config.json", "chat_template.jinja",
        "model-00001-of-2.safetensors",
    ]  # fmt: skip
    assert choose(names, Repository("o/n", None, "a.gguf")) == ["a.gguf"]
    with pytest.raises(SourceError):
        choose(["a.gguf", "b.gguf"], Repository("o/n"))
