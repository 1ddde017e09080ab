"""Libraries compiled without their docstrings: they go, assertions and all else stay; the bytes are the same each time."""

import ast
import subprocess
import sys
from pathlib import Path

import compile_libraries
import pytest

SOURCE = '''"""A module."""
from __future__ import annotations

class Thing:
    """Only documented."""

def f(x):
    """Doubles."""
    assert x > 0, "positive"
    return "kept", x * 2

async def g():
    """Waits."""
'''


def site(folder: Path) -> Path:
    made = folder / "tree" / "site"
    (made / "lib").mkdir(parents=True)
    (made / "lib" / "__init__.py").write_text(SOURCE)
    return made


def compiled(folder: Path) -> Path:
    made = site(folder)
    compile_libraries.main(made, folder / "tree")
    return made


def run(folder: Path, code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_a_module_runs_without_its_source(tmp_path: Path) -> None:
    made = compiled(tmp_path)
    assert [path.name for path in (made / "lib").iterdir()] == ["__init__.pyc"]
    done = run(made, "import lib; print(lib.f(2), [lib.__doc__, lib.f.__doc__, lib.g.__doc__, lib.Thing.__doc__])")
    assert done.stdout == "('kept', 4) ['', '', '', '']\n", done.stderr


def test_assertions_stay_and_tracebacks_name_the_place_after_installation(tmp_path: Path) -> None:
    done = run(compiled(tmp_path), "import lib; lib.f(0)")
    assert "AssertionError: positive" in done.stderr
    assert 'File "/site/lib/__init__.py", line 9' in done.stderr


@pytest.mark.parametrize("text", ["x = 1", "def f():\n    return 'd'\n", "'a' 'b'.join(())", "f'{1}'"])
def test_what_is_no_docstring_stays(text: str) -> None:
    assert ast.dump(compile_libraries.without_docstrings(ast.parse(text))) == ast.dump(ast.parse(text))


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (compiled(tmp_path / name) / "lib/__init__.pyc" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_a_module_that_does_not_compile_is_named(tmp_path: Path) -> None:
    made = site(tmp_path)
    (made / "lib" / "broken.py").write_text("x =")
    with pytest.raises(SyntaxError) as raised:
        compile_libraries.main(made, tmp_path / "tree")
    assert raised.value.filename == str(made / "lib/broken.py")
