"""A Source in a folder: an OCI image layout, as `publish pack`, bundles and `skopeo copy … oci:` make it."""

import os
from collections.abc import Sequence
from pathlib import Path

from appliance import limits
from appliance.registry.sources import layout_files
from appliance.registry.sources.base import Fetched
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.store.manifest import Descriptor, digest_of, is_digest


class LayoutBlob:
    """A blob's file, read from ``offset`` on, ``left`` bytes."""

    def __init__(self, fd: int, offset: int, left: int, name: str) -> None:
        self.offset = offset
        # A blob is named by its content: it can't have become another one.
        self.validator = ""
        self._fd = fd
        self._at = offset
        self._left = left
        self._name = name

    def read(self, size: int) -> bytes:
        """As base.Blob. Raises Unreachable when the medium fails, or has been pulled out."""
        try:
            piece = os.pread(self._fd, min(size, self._left, limits.layout_read_bytes), self._at)
        except OSError as error:
            raise Unreachable(f"{self._name} cannot be read: {error.strerror}") from None
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def __enter__(self) -> "LayoutBlob":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class LayoutSource:
    """The layout in ``root``. The index is read anew for each tag: a stick may be another one by now."""

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        """As base.Source. A digest is looked up among the blobs, its bytes are checked against it."""
        digest, media_type = reference, ""
        if not is_digest(reference):
            entry = self._entry(repository, reference)
            digest, media_type = entry.digest, entry.media_type
        if validator and validator == digest:
            return None
        data = layout_files.read_file(self._root, "blobs", "sha256", digest.partition(":")[2], bytes_max=bytes_max)
        if digest_of(data) != digest:
            raise Malformed(f"{self.name}: the manifest {digest} has decayed, or was changed")
        return Fetched(data, digest, media_type, digest)

    def blob(
        self,
        repository: str,  # noqa: ARG002 - a layout has one place for all blobs
        digest: str,
        *,
        offset: int = 0,
        length: int | None = None,
        validator: str = "",  # noqa: ARG002 - a blob can't have become another one
    ) -> LayoutBlob:
        """As base.Source."""
        if not is_digest(digest):
            raise Absent(f"{self.name}: {digest[:100]!r} is no sha256 digest")
        fd, size = layout_files.open_file(self._root, "blobs", "sha256", digest.partition(":")[2])
        left = max(0, size - offset)
        return LayoutBlob(fd, offset, left if length is None else min(left, length), f"{self.name}: {digest}")

    def tags(self, repository: str) -> Sequence[str]:
        """As base.Source."""
        try:
            names = layout_files.read_index(self._root)
        except Absent:
            return []
        found = [name.rpartition(":") for name in names]
        return sorted(tag for place, _, tag in found if place in (repository, ""))

    def _entry(self, repository: str, tag: str) -> Descriptor:
        names = layout_files.read_index(self._root)
        found = names.get(f"{repository}:{tag}")
        # What `skopeo copy docker://HOST/models/x:1.0.0 oci:FOLDER:1.0.0` writes: one repository, so its tags stand alone.
        if found is None and all(":" not in name for name in names):
            found = names.get(tag)
        if found is None:
            raise Absent(f"{self.name} has no {repository}:{tag}")
        return found
