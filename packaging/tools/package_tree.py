#!/usr/bin/env python3
"""Makes an installed set of wheels small: package_tree.py SITE_PACKAGES. What the daemon never reads is left out.

The rules are a table, so that a test can hold them against names; each says why.
"""

import fnmatch
import os
import shutil
import sys
from pathlib import Path

# Patterns of paths below site-packages ("*" also matches "/"), and what is left out with them.
LEFT_OUT = (
    ("bin", "commands of dependencies; ours is written by packaging/build"),
    ("lib", "a second copy of llama.cpp, where its own install rules put it"),
    ("include", "headers of llama.cpp"),
    ("share", "headers and CMake files of dependencies"),
    ("*/tests", "tests of dependencies"),
    ("*/testing", "test helpers of dependencies"),
    ("*.pyi", "types, read by type checkers only"),
    ("*/py.typed", "types"),
    ("*/.gitignore", "for their repositories"),
    ("*.sh", "for their developers"),
    ("*.a", "static libraries"),
    ("*.h", "headers"),
    ("*.pyx", "source of compiled modules"),
    ("*.pxd", "source of compiled modules"),
    ("*/__pycache__", "made again below, the same for every build"),
    ("*.dist-info/RECORD", "pip's list of files: no longer right"),
    ("*.dist-info/INSTALLER", "pip's"),
    ("*.dist-info/REQUESTED", "pip's"),
    ("*.dist-info/direct_url.json", "names the folder of the build"),
    ("*.dist-info/sboms", "lists of components inside wheels"),
    ("numpy/f2py", "a Fortran compiler's front-end"),
    ("numpy/_core/include", "headers"),
    ("numpy/_core/_simd.*", "for numpy's own tests"),
    ("numpy/_core/*_tests.*", "for numpy's own tests"),
    ("numpy/distutils", "builds modules"),
    ("numpy/_pyinstaller", "for another packager"),
    ("numpy/random/_examples", "examples"),
    ("onnxruntime/transformers", "makes models; the appliance only runs them"),
    ("onnxruntime/quantization", "makes models"),
    ("onnxruntime/tools", "makes models"),
    ("onnxruntime/datasets", "examples"),
    ("onnxruntime/capi/libonnxruntime.so.*", "the C interface once more: Python's module has the whole runtime in it"),
    ("onnxruntime/backend", "the ONNX project's test interface"),
    ("llama_cpp/server", "an HTTP server of its own"),
    ("numpy/linalg/lapack_lite.*", "for numpy's own tests; _umath_linalg has these routines in it too"),
    ("numpy/ma", "masked arrays; numpy imports it when it is asked for"),
    ("numpy/fft", "numpy imports it when it is asked for"),
    ("numpy/polynomial", "numpy imports it when it is asked for"),
    ("cffi", "makes bindings; cryptography's are made, and only load _cffi_backend"),
    ("pycparser", "cffi's"),
    ("pycparser-*", "cffi's"),
    ("packaging", "onnxruntime's tools'"),
    ("packaging-*", "onnxruntime's tools'"),
    ("flatbuffers", "onnxruntime's tools'"),
    ("flatbuffers-*", "onnxruntime's tools'"),
    ("pygments/lexers/[a-z]*.py", "colours programming languages, which no command prints"),
    ("pygments/lexers/_*_builtins.py", "their words"),
    ("pygments/formatters/[a-z]*.py", "rich prints; pygments only reads"),
    ("typer/.agents", "for those who write commands"),
    ("securesystemslib/_vendor/ed25519/test*", "test data"),
)
# Needed after all.
KEPT = ("pygments/lexers/special.py",)


def left_out(path: str) -> str | None:
    """Why ``path``, relative to site-packages, is not in the package; None when it is."""
    if any(fnmatch.fnmatchcase(path, kept) for kept in KEPT):
        return None
    return next((why for pattern, why in LEFT_OUT if fnmatch.fnmatchcase(path, pattern)), None)


def trim(site: Path) -> int:
    """Removes what is left out below ``site``; returns how many bytes that were."""
    freed = 0
    for folder, folders, files in os.walk(site, topdown=True):
        here = Path(folder)
        for name in [*files, *folders]:
            path = here / name
            if left_out(path.relative_to(site).as_posix()) is None:
                continue
            freed += _size(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        folders[:] = [name for name in folders if (here / name).is_dir()]
    return freed


def link_libraries(folder: Path) -> None:
    """A wheel holds no links: libX.so, libX.so.0 and libX.so.0.1.2 are three copies. Leaves libX.so and what links to it.

    The loader asks for libX.so.0 (the SONAME); processor variants are looked for by their .so alone.
    """
    for library in sorted(folder.glob("*.so")):
        for copy in sorted(folder.glob(f"{library.name}.*")):
            copy.unlink()
            if copy.name.count(".") == library.name.count(".") + 1 and "-cpu-" not in library.name:
                copy.symlink_to(library.name)


def shorten_metadata(site: Path) -> int:
    """Removes the page for the package index that METADATA ends with; returns how many bytes that were."""
    freed = 0
    for metadata in site.glob("*.dist-info/METADATA"):
        fields, _, page = metadata.read_bytes().partition(b"\n\n")
        metadata.write_bytes(fields + b"\n")
        freed += len(page)
    return freed


def _size(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(below.lstat().st_size for below in path.rglob("*") if not below.is_dir())


if __name__ == "__main__":
    root = Path(sys.argv[1])
    saved = trim(root) + shorten_metadata(root)
    link_libraries(root / "llama_cpp" / "lib")
    print(f"left out {saved / 1e6:.0f} MB")
