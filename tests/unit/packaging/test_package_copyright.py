"""The copyright file: each library that is in the package, with the licence that it names itself."""

from importlib.metadata import PathDistribution
from pathlib import Path

import package_copyright
import pytest


def library(folder: Path, name: str, *lines: str) -> PathDistribution:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines]) + "\n")
    return PathDistribution(info)


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: BSD-3-Clause", "License: something else"], "BSD-3-Clause"),
        (["License: MIT"], "MIT"),
        (["Classifier: License :: OSI Approved :: Apache Software License"], "Apache Software License"),
        ([], "see its texts"),
    ],
)
def test_licence(tmp_path: Path, lines: list[str], licence: str) -> None:
    assert package_copyright.licence_of(library(tmp_path, "x", *lines)) == licence


def test_ours_comes_first_and_only_once_and_the_others_by_name(tmp_path: Path) -> None:
    names = ("tuf", "inference-appliance", "grpcio")
    text = package_copyright.copyright_file(library(tmp_path, name, "License: MIT") for name in names)
    assert text.startswith("Format: ")
    assert [line for line in text.splitlines() if line.startswith("Files:")] == [
        "Files: *",
        f"Files: {package_copyright.SITE}/grpcio*",
        f"Files: {package_copyright.SITE}/tuf*",
    ]
