"""The folder that model.toml describes: every listed file there, inside, and a regular file."""

import os
from pathlib import Path

import pytest

from appliance.errors import InvalidArgument
from appliance.store import model_folder
from tests.support import model_folders as folders


def refused(root: Path) -> str:
    with pytest.raises(InvalidArgument) as caught:
        model_folder.read(root)
    assert caught.value.reason == "MODEL_FILES"
    assert str(root) not in caught.value.message
    return caught.value.message


def test_a_folder_is_read_with_sizes_and_what_is_not_listed_is_ignored(tmp_path: Path) -> None:
    root = folders.make(tmp_path / "f", extra=b"ignored")
    found = model_folder.read(root)
    assert [f.path for f in found.files] == [
        "model.toml",
        "model.onnx",
        "weights/big.bin",
        "labels.txt",
        "golden/x.npy",
        "README.md",
    ]
    assert found.files[2].size == 5120
    assert found.size_bytes == sum((root / f.path).stat().st_size for f in found.files)


def _link_to_outside(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/passwd")


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _socket(file: Path) -> None:
    file.unlink()
    os.mknod(file, 0o140644)


@pytest.mark.parametrize(
    ("path", "spoil", "says"),
    [
        ("model.onnx", Path.unlink, "file model.onnx is not in the model's folder"),
        ("model.toml", Path.unlink, "file model.toml is not in the model's folder"),
        ("model.onnx", _link_to_outside, "file model.onnx is a link"),
        ("model.toml", _link_to_outside, "file model.toml is a link"),
        ("README.md", _fifo, "file README.md is not a regular file"),
        ("README.md", _folder, "file README.md is not a regular file"),
        ("README.md", _socket, "file README.md is not a regular file"),
        ("model.onnx", lambda f: f.write_bytes(b""), "file model.onnx is empty"),
    ],
)
def test_a_file_that_is_not_there_or_no_file_is_named(tmp_path: Path, path: str, spoil: object, says: str) -> None:
    root = folders.make(tmp_path / "f")
    spoil(root / path)
    assert says in refused(root)


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    root = folders.make(tmp_path / "f")
    (root / "weights").rename(tmp_path / "elsewhere")
    (root / "weights").symlink_to(tmp_path / "elsewhere")
    assert "file weights/big.bin is a link, or lies behind one" in refused(root)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "model.toml is not in" in refused(tmp_path / "nothing")
