"""What is left out of the packages, and that nothing is that the daemon needs."""

from pathlib import Path

import package_tree
import pytest


@pytest.mark.parametrize(
    "path",
    [
        "numpy/tests",
        "google/protobuf/testing",
        "numpy/_core/include",
        "msgspec/__init__.pyi",
        "grpc/__pycache__",
        "tuf-7.0.1.dist-info/RECORD",
        "onnxruntime/capi/libonnxruntime.so.1.32.0",
        "lib",
        "bin",
        "pygments/lexers/python.py",
        "numpy/ma",
        "numpy/linalg/lapack_lite.cpython-311-x86_64-linux-gnu.so",
        "pycparser",
    ],
)
def test_is_left_out(path: str) -> None:
    assert package_tree.left_out(path)


@pytest.mark.parametrize(
    "path",
    [
        "numpy/lib",
        "numpy/matrixlib",
        "numpy/random/_generator.cpython-311-x86_64-linux-gnu.so",
        "numpy/linalg/_umath_linalg.cpython-311-x86_64-linux-gnu.so",
        "cffi-2.1.1.dist-info/licenses/LICENSE",
        "grpc/aio/__init__.py",
        "tuf-7.0.1.dist-info/METADATA",
        "tuf-7.0.1.dist-info/licenses/LICENSE",
        "onnxruntime/capi/libonnxruntime_providers_shared.so",
        "llama_cpp/lib/libllama.so",
        "pygments/lexers/_mapping.py",
        "pygments/lexers/special.py",
        "appliance/engine/llama/backend.py",
    ],
)
def test_is_kept(path: str) -> None:
    assert package_tree.left_out(path) is None


def test_nothing_of_ours_is_left_out() -> None:
    root = Path(package_tree.__file__).parents[2]
    ours = [path.relative_to(root).as_posix() for path in (root / "appliance").rglob("*.py")]
    assert len(ours) > 100
    assert [path for path in ours if package_tree.left_out(path)] == []


def test_trim_removes_files_and_whole_folders_and_counts_them(tmp_path: Path) -> None:
    for name, size in {"a/tests/deep/t.py": 5, "a/m.py": 7, "a/m.pyi": 3, "bin/tool": 2}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    assert package_tree.trim(tmp_path) == 5 + 3 + 2
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["a", "a/m.py"]


def test_metadata_keeps_its_fields_and_loses_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "x-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: x\nVersion: 1\n\n# Title\n\nName: y\n")
    assert package_tree.shorten_metadata(tmp_path) == len("# Title\n\nName: y\n")
    assert (folder / "METADATA").read_text() == "Name: x\nVersion: 1\n"


def test_copies_of_a_library_become_one_and_a_link(tmp_path: Path) -> None:
    for name in ("libggml.so", "libggml.so.0", "libggml.so.0.25.3", "libggml-cpu-x64.so", "libggml-cpu-x64.so.0"):
        (tmp_path / name).write_bytes(b"ELF")
    package_tree.link_libraries(tmp_path)
    assert {path.name: path.is_symlink() for path in tmp_path.iterdir()} == {
        "libggml.so": False,
        "libggml.so.0": True,
        "libggml-cpu-x64.so": False,
    }
    assert (tmp_path / "libggml.so.0").readlink() == Path("libggml.so")
