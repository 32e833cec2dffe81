"""The size table counts what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from overclock.program.isa import Op
from scripts import size_table


def test_opcodes_are_counted_from_the_source() -> None:
    assert size_table.opcodes() == len(Op)


def test_a_function_is_as_long_as_its_lines_without_the_docstring(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('def f() -> int:\n    """One.\n\n    Two.\n    """\n    x = 1\n    return x\n')
    assert list(size_table.functions(file)) == [size_table.Function("f", 3)]


def test_a_folder_is_its_python_and_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_table, "ROOT", tmp_path)
    folder = tmp_path / "part"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.py").write_text("def f() -> None:\n    return\n")
    (folder / "deep" / "b.cpp").write_text("int x;\nint y;\nint z;\n")
    (folder / "notes.txt").write_text("not code\n")
    size = size_table.measure(folder)
    assert (size.folder, size.files, size.lines) == ("part", 2, 5)
    assert "f" in size_table.row(size).split()


def test_the_table_has_a_row_for_every_package(capsys: pytest.CaptureFixture[str]) -> None:
    size_table.main()
    printed = capsys.readouterr().out
    for name in ("cli", "machine", "model", "program"):
        assert f"src/overclock/{name}" in printed
    assert f"opcodes {len(Op)}" in printed
