"""The engines that can be compared, and the processes they run in."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

WORKERS = Path(__file__).parent / "workers"


class EngineError(Exception):
    """An engine cannot be started or has failed; the message is for its column of the table."""


@dataclass(frozen=True)
class Engine:
    """One engine in one configuration.

    `package` is what must be installed; `model` is ``decoder`` or ``encoder`` for the user's own,
    the name of a file that prepare_peers.py makes, or empty for none.
    """

    name: str
    worker: str
    package: str
    model: str
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    threads: int | None = None  # None: as the run was asked for
    against: str = "overclock"  # the engine whose ratio to this one is told

    @property
    def ours(self) -> bool:
        """Whether this is the engine that the others are compared with."""
        return self.package == "overclock"


OURS = Engine("overclock", "our_llm.py", "overclock", "decoder")
LLAMA = Engine("llama.cpp", "llamacpp.py", "llama_cpp", "decoder")
LLAMA_FLASH = replace(LLAMA, name="llama.cpp flash", options={"flash": "1"})
OPENVINO = Engine("OpenVINO GenAI", "openvino_llm.py", "openvino_genai", "decoder")
ORT_GENAI = Engine("ONNX Runtime GenAI int4", "ort_llm.py", "onnxruntime_genai", "decoder-ort-int4")
TORCH = Engine("transformers f32", "torch_llm.py", "transformers", "decoder")

DECODERS = (OURS, LLAMA, LLAMA_FLASH, OPENVINO, ORT_GENAI, TORCH)
FRESH = (OURS, LLAMA, OPENVINO, ORT_GENAI, TORCH)
KV8 = tuple(
    replace(engine, name=f"{engine.name} kv8", options=options, against="overclock kv8")
    for engine, options in (
        (OURS, {"kv": "i8"}),
        (LLAMA, {"flash": "1", "kv": "q8_0"}),
        (OPENVINO, {"kv": "u8"}),
    )
)
SCALING = tuple(
    replace(engine, name=f"{engine.name} {threads}t", threads=threads, against=f"{engine.name} 2t")
    for engine in (OURS, LLAMA, OPENVINO)
    for threads in (1, 2)
)
LLAMA_Q4_0 = replace(LLAMA_FLASH, name="llama.cpp flash Q4_0", model="decoder-q4_0.gguf")
CTRANSLATE2 = Engine("CTranslate2 int8", "ctranslate2_llm.py", "ctranslate2", "decoder-ct2-int8")
BATCHING = replace(
    OPENVINO, name="OpenVINO GenAI batching", options={"batching": "1", "tokens": "4096"}
)
# As OpenVINO's batch of 4,096 tokens: prompts come first, whatever that does to gaps.
OURS_TOGETHER = replace(OURS, options={"prompts": "first"})
STREAMS = (OURS_TOGETHER, LLAMA, LLAMA_FLASH, LLAMA_Q4_0, BATCHING, ORT_GENAI, CTRANSLATE2, TORCH)
PREFIX = (
    OURS,
    LLAMA,
    replace(BATCHING, name="OpenVINO GenAI prefix", options={"batching": "1", "prefix": "1"}),
    ORT_GENAI,
)
LONG_PROMPT = (OURS, replace(BATCHING, options={"batching": "1"}))
OURS_F32 = replace(
    OURS, name="overclock f32", worker="our_encoder.py", model="encoder", against="overclock f32"
)
ORT_F32 = Engine(
    "ONNX Runtime f32", "ort_encoder.py", "onnxruntime", "encoder-f32.onnx", against="overclock f32"
)
ENCODERS = (
    OURS_F32,
    replace(OURS_F32, name="overclock int8", options={"weights": "int8"}, against="overclock int8"),
    ORT_F32,
    replace(ORT_F32, name="ONNX Runtime int8", model="encoder-int8.onnx", against="overclock int8"),
    replace(
        ORT_F32,
        name="OpenVINO f32",
        worker="openvino_encoder.py",
        package="openvino",
        model="encoder-plain.onnx",
    ),
)


@dataclass(frozen=True)
class Places:
    """Where this computer has what the engines need.

    `pythons` gives the interpreter for a package, or under ``peers`` for all but our own.
    """

    decoder: Path
    encoder: Path
    prepared: Path | None
    pythons: Mapping[str, str]
    threads: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> Places:
        """From the words that `add_options` asks for."""
        pythons = dict(word.split("=", 1) for word in args.python)
        return cls(locate(args.model), locate(args.encoder), args.prepared, pythons, args.threads)

    def python(self, engine: Engine) -> str:
        """The interpreter whose environment has the engine."""
        default = sys.executable if engine.ours else self.pythons.get("peers", sys.executable)
        return self.pythons.get(engine.package, default)

    def model(self, engine: Engine) -> Path:
        """The file or directory the engine loads. Raises EngineError if it is not there."""
        own = {"decoder": self.decoder, "encoder": self.encoder}
        if not engine.model:
            return Path()
        path = own.get(engine.model) or (self.prepared or Path()) / engine.model
        if not path.exists():
            raise EngineError(f"{path.name} is not there: see prepare_peers.py and --prepared")
        return path

    def command(self, engine: Engine, context: int) -> list[str]:
        """What starts the engine's worker."""
        words = [self.python(engine), str(WORKERS / engine.worker), "--model"]
        words += [str(self.model(engine)), "--context", str(context)]
        words += ["--threads", str(engine.threads or self.threads)]
        for name, value in engine.options.items():
            words += ["--option", f"{name}={value}"]
        return words

    def installed(self, engine: Engine) -> bool:
        """Whether the engine's package is there, found without importing it."""
        found = f"importlib.util.find_spec('{engine.package}')"
        words = [self.python(engine), "-c", f"import importlib.util; assert {found}"]
        return subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """What says where models and engines are."""
    parser.add_argument("--model", default="smollm2", help="a GGUF file, or a known name")
    parser.add_argument("--encoder", default="minilm", help="a directory, or a known name")
    parser.add_argument("--prepared", type=Path, help="where prepare_peers.py has put its files")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PACKAGE=PATH",
        help="the interpreter that has a package; `peers=PATH` for all peers",
    )
    parser.add_argument("--threads", type=int, default=2)


def locate(name: str) -> Path:
    """The files behind a path or a name that overclock knows."""
    if Path(name).exists():
        return Path(name).resolve()
    from overclock.model.load import load

    return load(name).path


class Worker:
    """A running engine; a context manager that ends the process."""

    def __init__(self, command: list[str]) -> None:
        """Start it and wait until it has loaded its model. Raises EngineError if it does not."""
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        hello = self._read()
        self.start_seconds = time.perf_counter() - begin
        self.version = str(hello["version"])

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()

    def _last_words(self) -> str:
        """The last line of standard error, which is where a traceback says why."""
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else "it ended without a word"

    def ask(self, **request: object) -> dict[str, object]:
        """One request, one answer. Raises EngineError with the worker's reason."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EngineError("its process has ended") from None
        return self._read()

    def seconds(self, **request: object) -> float:
        """The seconds of one request."""
        value = self.ask(**request)["seconds"]
        assert isinstance(value, float)
        return value

    def times(self, **request: object) -> list[list[float]]:
        """When each token of each stream came, in seconds since the request."""
        value = self.ask(**request)["times"]
        assert isinstance(value, list)
        return value

    def _read(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise EngineError(self._last_words())
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise EngineError(str(answer["error"]))
        return answer
