#!/usr/bin/env python3
"""Gives native libraries build IDs that depend on their bytes alone: build_ids.py FOLDER. Run it after strip.

A linker's ID is a sum over symbols, too, that name the folder of the compilation and are stripped later: it is all that
differs between two compilations. Removing its section would cost the libraries RELRO (strip loses that segment).
"""

import hashlib
import sys
from pathlib import Path

# An ELF note: 4 bytes of name, 20 of description, type 3 (NT_GNU_BUILD_ID), the name (elf(5)).
_NOTE = b"\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00"
_ID_BYTES = 20
# Notes are loaded with the first page.
_HEAD_BYTES = 4096


def renewed(library: bytes) -> bytes:
    """``library`` with the SHA-1 of all other bytes as its ID; the same bytes when it has none."""
    where = library.find(_NOTE, 0, _HEAD_BYTES)
    if not library.startswith(b"\x7fELF") or where < 0:
        return library
    start, end = where + len(_NOTE), where + len(_NOTE) + _ID_BYTES
    rest = library[:start] + library[end:]
    return library[:start] + hashlib.sha1(rest, usedforsecurity=False).digest() + library[end:]


if __name__ == "__main__":
    for path in Path(sys.argv[1]).rglob("*.so*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(renewed(path.read_bytes()))
