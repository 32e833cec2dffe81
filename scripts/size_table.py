"""Print how large the project is: files, lines and functions of each folder, opcodes, settings."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "overclock"
CPP_SUFFIXES = {".cpp", ".h", ".inc"}
LONG_FILE = 400


class Function(NamedTuple):
    """A function and how many lines it has, its docstring left out."""

    name: str
    lines: int


class Size(NamedTuple):
    """One row of the table."""

    folder: str
    files: int
    lines: int
    functions: list[Function]


def functions(path: Path) -> Iterator[Function]:
    """Every function of a Python file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, _length(node))


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    length = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None and first.end_lineno is not None:
        length -= first.end_lineno - first.lineno + 1
    return length


def lines(path: Path) -> int:
    """How many lines a text file has."""
    return len(path.read_text(encoding="utf-8").splitlines())


def measure(folder: Path, pattern: str = "**/*") -> Size:
    """The size of one folder's Python and C++ files."""
    files = [
        path
        for path in sorted(folder.glob(pattern))
        if path.suffix == ".py" or path.suffix in CPP_SUFFIXES
    ]
    found = [f for path in files if path.suffix == ".py" for f in functions(path)]
    return Size(str(folder.relative_to(ROOT)), len(files), sum(map(lines, files)), found)


def sizes() -> list[Size]:
    """One row a package of the source, then the other folders."""
    packages = [path for path in sorted(SOURCE.iterdir()) if (path / "__init__.py").exists()]
    others = [ROOT / name for name in ("cpp", "tests", "benchmarks", "examples", "scripts")]
    return [measure(SOURCE, "*.py"), *map(measure, [*packages, *others])]


def opcodes() -> int:
    """How many members the enumeration `Op` of the instruction set has."""
    tree = ast.parse((SOURCE / "program" / "isa.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Op":
            return sum(isinstance(item, ast.Assign) for item in node.body)
    raise SystemExit("program/isa.py has no class Op")


def settings() -> int:
    """How many different options the commands have, and environment variables that are read."""
    commands = "".join(path.read_text(encoding="utf-8") for path in (SOURCE / "cli").glob("*.py"))
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    options = re.findall(r'"(--[a-z][a-z-]+)', commands)
    return len({*options, *re.findall(r'"(OVERCLOCK_[A-Z_]+)"', source)})


def row(size: Size) -> str:
    """A line of the table."""
    lengths = sorted(function.lines for function in size.functions)
    if not lengths:
        return f"{size.folder:<26}{size.files:>6}{size.lines:>8}"
    longest = max(size.functions, key=lambda function: function.lines)
    middle = int(statistics.median(lengths))
    most = lengths[int(0.95 * (len(lengths) - 1))]
    counts = f"{size.files:>6}{size.lines:>8}{len(lengths):>8}{middle:>8}{most:>6}"
    return f"{size.folder:<26}{counts}{longest.lines:>6}  {longest.name}"


def long_files() -> list[str]:
    """Source files that would do better as two."""
    paths = (path for folder in ("src", "cpp", "tests") for path in (ROOT / folder).rglob("*.*"))
    code = (path for path in paths if path.suffix == ".py" or path.suffix in CPP_SUFFIXES)
    return [
        f"{path.relative_to(ROOT)} has {lines(path)} lines, more than {LONG_FILE}"
        for path in sorted(code)
        if lines(path) > LONG_FILE
    ]


def main() -> None:
    """Print the table."""
    print(f"{'folder':<26}{'files':>6}{'lines':>8}{'defs':>8}{'median':>8}{'95 %':>6}{'most':>6}")
    table = sizes()
    for size in table:
        print(row(size))
    print(f"{'all':<26}{sum(s.files for s in table):>6}{sum(s.lines for s in table):>8}")
    print(f"opcodes {opcodes()}, settings {settings()}")
    for remark in long_files():
        print(remark)


if __name__ == "__main__":
    main()
