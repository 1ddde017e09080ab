"""Our .deb as another version of it would be: the same tree with some lines changed, packed again in a few seconds.

What `packaging/build` takes a minute for is not done again; what was built is what is under test.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SITE = "usr/lib/inference-appliance/lib/python3.11/site-packages/appliance"
Edits = Mapping[str, Sequence[tuple[str, str]]]  # path in the package: what to replace, by what


def other_version(deb: Path, folder: Path, version: str, edits: Edits | None = None) -> Path:
    """The package in ``folder``, which must not be there yet."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tree)], check=True, capture_output=True)
    own = {
        "DEBIAN/control": [("\nVersion: ", f"\nVersion: {version}-1\nReplaces-Version: ")],
        f"{SITE}/__init__.py": [('__version__ = "', f'__version__ = "{version}"  # instead of "')],
    }
    for path, changes in (*own.items(), *(edits or {}).items()):
        _edit(tree / path, changes)
    made = folder / f"inference-appliance_{version}-1_amd64.deb"
    # Uncompressed: this is installed once.
    command = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made


def _edit(path: Path, changes: Sequence[tuple[str, str]]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is not once in {path}"
        text = text.replace(old, new)
    path.write_text(text)
    # Compiled modules are not checked against their source.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
