"""The scripts in a bare checkout: what they say when something is missing, and what they redo.

Python, pip and overclock are stand-ins that note how they were called; nothing is built or fetched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = (
    "bash",
    "cat",
    "dirname",
    "env",
    "find",
    "mkdir",
    "rm",
    "sha256sum",
    "sort",
    "tail",
    "touch",
    "xargs",
)

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@dataclass
class Checkout:
    """A checkout with the real scripts, and a PATH that holds only what a test puts there."""

    root: Path

    def tool(self, name: str, body: str) -> None:
        """A stand-in on the PATH."""
        self._executable(self.root / "bin" / name, body)

    def installed(self, name: str, body: str) -> None:
        """A stand-in inside the virtual environment."""
        self._executable(self.root / ".venv" / "bin" / name, body)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "scripts" / script), *arguments],
            env={"PATH": str(self.root / "bin")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        """How pip was called, one line a call."""
        noted = self.root / "calls"
        return noted.read_text().splitlines() if noted.exists() else []

    def _executable(self, path: Path, body: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path) -> Checkout:
    """Nothing but the sources and the tools that every system has."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for folder in ("cpp", "src", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src" / "a.py").write_text("a = 1\n")
    for name in ("pyproject.toml", "CMakeLists.txt"):
        (tmp_path / name).write_text("")
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return Checkout(tmp_path)


@pytest.fixture
def ready(bare: Checkout) -> Checkout:
    """With a virtual environment whose packages are there, and a compiler."""
    bare.installed("python", 'cat >/dev/null; [ "$1" != - ] || echo numpy')
    bare.installed("pip", f'echo "$@" >>{bare.root}/calls')
    bare.installed("overclock", 'echo "overclock $*"')
    bare.tool("g++", "true")
    (bare.root / ".venv" / "complete").touch()
    return bare


def assert_fails(result: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert sentence in last
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("script", ["run", "test", "check"])
def test_scripts_are_executable_and_explain_themselves(bare: Checkout, script: str) -> None:
    assert os.access(ROOT / "scripts" / script, os.X_OK)
    result = bare.run(script, "--help")
    assert result.returncode == 0
    assert f"usage: scripts/{script}" in result.stdout
    assert not (bare.root / ".venv").exists()


def test_run_without_words_prints_its_usage(bare: Checkout) -> None:
    result = bare.run("run")
    assert result.returncode == 2
    assert "usage: scripts/run" in result.stdout
    assert not (bare.root / ".venv").exists()


@pytest.mark.parametrize("old", [None, "exit 1"])
def test_no_python_or_too_old_a_one(bare: Checkout, old: str | None) -> None:
    if old is not None:
        bare.tool("python3", old)
    assert_fails(bare.run("run", "hello"), "Python 3.11 or newer is missing")


def test_no_venv_module(bare: Checkout) -> None:
    bare.tool("python3", '[[ "$2" != *ensurepip* ]]')
    assert_fails(bare.run("run", "hello"), "apt install python3-venv")


def test_an_environment_that_cannot_be_made(bare: Checkout) -> None:
    bare.tool("python3", '[ "$1" = -c ]')
    assert_fails(bare.run("run", "hello"), "space on the disk")


def test_no_network(ready: Checkout) -> None:
    ready.installed("pip", "echo 'no route to host'; exit 1")
    result = ready.run("run", "hello")
    assert_fails(result, "is the network reachable")
    assert "no route to host" in (ready.root / "build" / "install.log").read_text()


def test_no_compiler(ready: Checkout) -> None:
    (ready.root / "bin" / "g++").unlink()
    assert_fails(ready.run("run", "hello"), "A C++ compiler is missing")


def test_a_build_that_fails_is_tried_again(ready: Checkout) -> None:
    ready.installed("pip", "[[ $* == *stdin* ]] || { echo 'kernel.cpp:1: error'; exit 1; }")
    for _ in range(2):
        result = ready.run("run", "hello")
        assert_fails(result, "could not be built")
        assert "kernel.cpp:1: error" in result.stderr


def test_the_prompt_and_its_options_are_passed_on(ready: Checkout) -> None:
    result = ready.run("run", "Why is the sky blue?", "--seed", "1")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "overclock run Why is the sky blue? --seed 1\n"


def test_a_second_run_fetches_and_builds_nothing(ready: Checkout) -> None:
    ready.run("run", "hello")
    first = ready.calls()
    assert len(first) == 2
    result = ready.run("run", "hello")
    assert result.stderr == ""
    assert ready.calls() == first


@pytest.mark.parametrize("file", ["src/a.py", "cpp/new.cpp", "pyproject.toml", "CMakeLists.txt"])
def test_a_changed_source_is_built_again(ready: Checkout, file: str) -> None:
    ready.run("run", "hello")
    (ready.root / file).write_text("# changed\n")
    ready.run("run", "hello")
    calls = ready.calls()
    assert len(calls) == 3
    assert calls[-1].endswith(" .")


def test_changed_requirements_are_fetched_again(ready: Checkout) -> None:
    ready.run("run", "hello")
    ready.installed("python", 'cat >/dev/null; [ "$1" != - ] || echo numpy click')
    ready.run("run", "hello")
    assert [("-r" in call.split()) for call in ready.calls()] == [True, False, True]


@pytest.mark.parametrize(
    ("words", "marked"),
    [
        ((), "-m pytest -m not real"),
        (("--all",), "-m pytest"),
        (("--real", "-x"), "-m pytest -m real -x"),
    ],
)
def test_test_chooses_by_marker(ready: Checkout, words: tuple[str, ...], marked: str) -> None:
    ready.installed("python", 'case $1 in -) echo numpy;; -m) echo "$@";; esac')
    result = ready.run("test", *words)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == marked


def test_check_refuses_unknown_words(bare: Checkout) -> None:
    assert_fails(bare.run("check", "--fast"), "not --fast")


def test_continuous_integration_runs_both() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert "scripts/check" in text
    assert "scripts/test --all" in text
