#!/usr/bin/env python3
"""Debian's copyright file for us and for every library that is in the package: package_copyright.py SITE_PACKAGES.

Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/. A library's licence texts stay beside it, in
its .dist-info folder; this file says which licence it is and where the text lies.
"""

import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

SITE = "usr/lib/inference-appliance/lib/python3.11/site-packages"
HEAD = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: inference-appliance

Files: *
Copyright: 2026 the Inference Appliance developers
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
"""


def copyright_file(libraries: Iterable[Distribution]) -> str:
    """The whole file; ours first, libraries by name."""
    others = [library for library in libraries if _name(library) != "inference-appliance"]
    return "\n".join([HEAD, *(paragraph(library) for library in sorted(others, key=_name))])


def paragraph(library: Distribution) -> str:
    """One library: where it is, whose, and under which licence."""
    metadata = library.metadata
    folder = f"{_name(library).replace('-', '_')}-{library.version}.dist-info"
    author = metadata.get("Author") or metadata.get("Author-email") or metadata.get("Maintainer") or "its authors"
    licence = licence_of(library)
    return (
        f"Files: {SITE}/{_name(library).replace('-', '_')}*\n"
        f"Copyright: {' '.join(author.split())}\n"
        f"License: {licence.replace(' ', '-')}-{_name(library)}\n"
        f" {licence}; version {library.version}. The texts are in\n"
        f" /{SITE}/{folder}.\n"
    )


def licence_of(library: Distribution) -> str:
    """The SPDX expression if the library names one; else its short licence field, or its classifier's last part."""
    metadata = library.metadata
    for field in ("License-Expression", "License"):
        value = metadata.get(field) or ""
        if value and "\n" not in value and len(value) < 80:
            return str(value)
    named = [value for value in metadata.get_all("Classifier") or [] if value.startswith("License ::")]
    return named[0].split(" :: ")[-1] if named else "see its texts"


def _name(library: Distribution) -> str:
    return str(library.metadata["Name"]).lower()


if __name__ == "__main__":
    found = Path(sys.argv[1]).glob("*.dist-info")
    sys.stdout.write(copyright_file(PathDistribution(path) for path in found))
