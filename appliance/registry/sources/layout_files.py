"""The files of an OCI image layout (OCI image-spec 1.1, image-layout.md), opened as what they may be: somebody's stick.

No link is followed at any step, only regular files are opened, and what is read whole is bounded before it is read.
"""

import errno
import os
from pathlib import Path

import msgspec

from appliance import limits
from appliance.osutil import beneath
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.store.manifest import Descriptor, is_digest

MARKER = "oci-layout"
INDEX = "index.json"
MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"


class IndexFile(msgspec.Struct, frozen=True, rename="camel"):
    """index.json; the names of its entries are ``repository:tag``, or only a tag where there is one repository."""

    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str = INDEX_TYPE


_decoder = msgspec.json.Decoder(IndexFile)


def open_file(root: Path, *parts: str) -> tuple[int, int]:
    """(descriptor, size) of a regular file below ``root``, whose folders and file are no links.

    ``root`` itself is the operator's word and may be one. Raises Absent, Malformed, or Unreachable for a medium that fails.
    """
    place = "/".join(parts)
    try:
        with beneath.opened(root, place) as opened:
            fd = os.dup(opened)
    except beneath.NotAFile:
        raise Malformed(f"{place} in {root} is no file") from None
    except (FileNotFoundError, NotADirectoryError):
        raise Absent(f"{root} has no {place}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Malformed(f"{place} in {root} is a link, which no layout of ours holds") from None
        raise Unreachable(f"{place} in {root} cannot be opened: {error.strerror}") from None
    return fd, os.fstat(fd).st_size


def read_file(root: Path, *parts: str, bytes_max: int) -> bytes:
    """A small file, whole. Raises as open_file does, and Malformed for one of more than ``bytes_max``."""
    fd, size = open_file(root, *parts)
    with open(fd, "rb", buffering=0) as file:
        if size > bytes_max:
            raise Malformed(f"{'/'.join(parts)} in {root} has {size} bytes, at most {bytes_max} are allowed")
        try:
            data = file.read(bytes_max + 1) or b""
        except OSError as error:
            raise Unreachable(f"{'/'.join(parts)} in {root} cannot be read: {error.strerror}") from None
    if len(data) != size:
        raise Unreachable(f"{'/'.join(parts)} in {root} changed while it was read")
    return data


def read_index(root: Path) -> dict[str, Descriptor]:
    """The layout's manifests by their names. Raises as read_file does, and Malformed for what is no index."""
    data = read_file(root, INDEX, bytes_max=limits.layout_index_bytes_max)
    try:
        index = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{INDEX} in {root} cannot be read: {error}") from None
    if index.schema_version != 2:
        raise Malformed(f"{INDEX} in {root} has schemaVersion {index.schema_version}, not 2")
    found = {}
    for entry in index.manifests:
        if not is_digest(entry.digest) or entry.size < 0:
            raise Malformed(f"{INDEX} in {root} has an entry without a sha256 digest, or with a negative size")
        if name := entry.annotations.get(REF_NAME, ""):
            found[name] = entry
    return found
