"""What a stranger finds: documents whose links lead somewhere and whose words agree."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from overclock.cli.group import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
BOTH = [("README.md", "README.zh-CN.md"), ("docs/guide.md", "docs/guide.zh-CN.md")]
# Written in pieces, so that this file does not find itself.
MACHINE_PATH = re.compile("/" + r"(?:work|home/\w+|root|Users/\w+|opt/pypi[\w-]*)/")


def tracked() -> list[Path]:
    """The repository's files: those git knows, or all but what is built if there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def documents() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def links(document: Path) -> Iterator[str]:
    prose = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in headings}


def test_every_link_leads_somewhere() -> None:
    broken = []
    for document in documents():
        for link in links(document):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = document if not name else (document.parent / name)
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{document.relative_to(ROOT)}: {link}")
    assert broken == []


def commands(document: Path) -> list[str]:
    """The lines of all shell blocks, without their remarks."""
    blocks = re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(("english", "chinese"), BOTH)
def test_both_languages_name_the_same_commands(english: str, chinese: str) -> None:
    assert commands(ROOT / english) == commands(ROOT / chinese)
    assert commands(ROOT / english)


@pytest.mark.parametrize(("english", "chinese"), BOTH)
def test_both_languages_have_the_same_sections_and_options(english: str, chinese: str) -> None:
    first, second = ((ROOT / name).read_text(encoding="utf-8") for name in (english, chinese))
    assert len(re.findall(r"^##+ ", first, re.MULTILINE)) == len(
        re.findall(r"^##+ ", second, re.MULTILINE)
    )
    assert set(re.findall(r"--[a-z][a-z0-9-]+", first)) == set(
        re.findall(r"--[a-z][a-z0-9-]+", second)
    )


def test_the_readme_shows_every_command() -> None:
    shown = " ".join(commands(ROOT / "README.md"))
    assert [name for name in COMMANDS if f"overclock {name}" not in shown] == []


def test_every_option_of_the_guide_exists() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src/overclock/cli").glob("*.py"))
    guide = (ROOT / "docs/guide.md").read_text()
    options = set(re.findall(r"--[a-z][a-z0-9-]+", guide))
    assert sorted(option for option in options if f'"{option}"' not in source) == []


def test_python_in_the_documents_can_be_parsed() -> None:
    for document in documents():
        for block in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
            ast.parse(block)


def test_the_list_of_decisions_is_complete() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\((\d{4}-[^)]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {path.name for path in folder.glob("[0-9]*.md")}


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path, text in texts()
        for match in MACHINE_PATH.finditer(text)
    ]
    assert found == []


def test_only_one_file_imports_the_extension() -> None:
    importers = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if re.search(
            r"^\s*(?:from|import) overclock\b.*\b_native\b", path.read_text(), re.MULTILINE
        )
    ]
    assert importers in ([], ["src/overclock/machine/native.py"])


def test_base_dependencies_have_no_upper_bounds_and_no_framework() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        assert not re.search(r"<|==|~=", requirement), requirement
        assert not re.match(r"torch|tensorflow|jax|onnx|transformers", requirement), requirement


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
