#!/usr/bin/env python3
"""Compiles installed libraries and removes their source: compile_libraries.py SITE_PACKAGES TREE.

Without docstrings, which are 3 MB; but with their assertions, which ``python -OO`` would take away too. The bytes depend
only on the sources: modules are compiled in the order of their names, and checked against no source (PEP 552).
"""

import ast
import importlib.util
import marshal
import sys
from pathlib import Path

# PEP 552: bit 0: checked by a hash, not by a time; bit 1 (unset): and that hash is not looked at.
_FLAGS = (1).to_bytes(4, "little")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main(site: Path, tree: Path) -> None:
    """Every .py below ``site`` becomes the .pyc beside it; tracebacks name its place as if ``tree`` were /."""
    for source in sorted(site.rglob("*.py")):
        text = source.read_bytes()
        code = compile(
            without_docstrings(ast.parse(text, source)),
            f"/{source.relative_to(tree)}",
            "exec",
            dont_inherit=True,
            optimize=0,
        )
        compiled = importlib.util.MAGIC_NUMBER + _FLAGS + importlib.util.source_hash(text) + marshal.dumps(code)
        source.with_suffix(".pyc").write_bytes(compiled)
        source.unlink()


def without_docstrings(module: ast.Module) -> ast.Module:
    """``module``, changed: every docstring is now an empty one, so that what adds to it or splits it still works."""
    for node in ast.walk(module):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body[0].value.value = ""  # type: ignore[attr-defined]
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
