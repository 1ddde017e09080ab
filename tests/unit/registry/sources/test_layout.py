"""Layouts as sources and targets: whole at any moment, and hostile until read."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.osutil import faults
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.registry.sources.layout import LayoutSource
from appliance.registry.sources.layout_target import LayoutTarget
from appliance.store.manifest import MANIFEST_TYPE, digest_of

BLOB = bytes(range(256)) * 20
DIGEST = digest_of(BLOB)
MANIFEST = b'{"a": "manifest"}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    target = LayoutTarget(tmp_path / "stick")
    target.put_blob("plant/models/m", DIGEST, len(BLOB), lambda: (BLOB[:1000], BLOB[1000:]))
    target.put_manifest("plant/models/m", "1.0.0", MANIFEST_TYPE, MANIFEST)
    target.put_manifest("plant/tuf", "timestamp.json", MANIFEST_TYPE, b"{}")
    return tmp_path / "stick"


def read(source: LayoutSource, digest: str = DIGEST, **options: int) -> tuple[int, bytes]:
    with source.blob("plant/models/m", digest, **options) as blob:  # type: ignore[arg-type]
        pieces = list(iter(lambda: blob.read(700), b""))
    return blob.offset, b"".join(pieces)


def test_what_was_put_is_there(root: Path) -> None:
    source = LayoutSource(root)
    found = source.manifest("plant/models/m", "1.0.0", bytes_max=1000)
    assert found is not None
    assert (found.data, found.digest, found.media_type) == (MANIFEST, digest_of(MANIFEST), MANIFEST_TYPE)
    assert source.manifest("plant/models/m", "1.0.0", bytes_max=1000, validator=found.validator) is None
    by_digest = source.manifest("plant/models/m", found.digest, bytes_max=1000)
    assert by_digest is not None
    assert by_digest.data == MANIFEST
    assert read(source) == (0, BLOB)
    assert source.tags("plant/models/m") == ["1.0.0"]
    assert source.tags("plant/tuf") == ["timestamp.json"]
    assert source.tags("plant/other") == []
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


@pytest.mark.parametrize(
    ("options", "part"),
    [({"offset": 1000}, BLOB[1000:]), ({"offset": 1000, "length": 10}, BLOB[1000:1010]), ({"length": 5}, BLOB[:5]),
     ({"offset": len(BLOB)}, b""), ({"offset": len(BLOB) + 5}, b""), ({"offset": 10, "length": 10**9}, BLOB[10:])],
)  # fmt: skip
def test_a_part_of_a_blob(root: Path, options: dict[str, int], part: bytes) -> None:
    assert read(LayoutSource(root), **options) == (options.get("offset", 0), part)


def test_tags_alone_are_those_of_the_one_repository(root: Path) -> None:
    index = json.loads((root / "index.json").read_text())
    entry = next(e for e in index["manifests"] if "models" in str(e["annotations"]))
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1.0.0"}
    (root / "index.json").write_text(json.dumps({**index, "manifests": [entry]}))
    source = LayoutSource(root)
    found = source.manifest("whatever/name", "1.0.0", bytes_max=1000)
    assert found is not None
    assert found.data == MANIFEST
    assert source.tags("whatever/name") == ["1.0.0"]


def test_what_is_not_there(root: Path, tmp_path: Path) -> None:
    source = LayoutSource(root)
    for call in (
        lambda: source.manifest("plant/models/m", "2.0.0", bytes_max=1000),
        lambda: source.manifest("plant/models/other", "1.0.0", bytes_max=1000),
        lambda: source.manifest("plant/models/m", digest_of(b"other"), bytes_max=1000),
        lambda: source.blob("plant/models/m", digest_of(b"other")),
        lambda: source.blob("plant/models/m", "sha256:../../etc/passwd"),
        lambda: LayoutSource(tmp_path / "none").manifest("plant/models/m", "1.0.0", bytes_max=1000),
    ):
        with pytest.raises(Absent):
            call()
    assert LayoutSource(tmp_path / "none").tags("plant/models/m") == []


def spoil_index(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def spoil(root: Path) -> None:
        index = json.loads((root / "index.json").read_text())
        change(index)
        (root / "index.json").write_text(json.dumps(index))

    return spoil


def as_link(root: Path, name: str) -> None:
    outside = root.parent / "outside"
    (root / name).rename(outside)
    (root / name).symlink_to(outside)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "index.json").write_text("{"), "cannot be read"),
        (lambda root: (root / "index.json").write_bytes(b"[" * 100_000), "cannot be read"),
        (lambda root: (root / "index.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda root: os.truncate(root / "index.json", 17 * 1024 * 1024), "at most"),
        (lambda root: as_link(root, "index.json"), "is a link"),
        (lambda root: as_link(root, "blobs"), "is a link|has no"),
        (lambda root: as_link(root, f"blobs/sha256/{digest_of(MANIFEST)[7:]}"), "is a link"),
        (lambda root: ((root / "index.json").unlink(), os.mkfifo(root / "index.json")), "is no file"),
        (lambda root: ((root / "index.json").unlink(), (root / "index.json").mkdir()), "is no file"),
        (spoil_index(lambda i: i.update(schemaVersion=1)), "schemaVersion 1"),
        (spoil_index(lambda i: i["manifests"][0].update(digest="sha256:../../x")), "without a sha256"),
        (spoil_index(lambda i: i["manifests"][0].update(size=-1)), "negative size"),
        (lambda root: (root / "blobs/sha256" / digest_of(MANIFEST)[7:]).write_bytes(b'{"b": "manifest"}'), "decayed"),
        (lambda root: os.truncate(root / "blobs/sha256" / digest_of(MANIFEST)[7:], 10**9), "at most 1000"),
    ],
)
def test_a_stick_that_somebody_has_spoilt(root: Path, spoil: Callable[[Path], object], words: str) -> None:
    spoil(root)
    with pytest.raises((Malformed, Absent), match=words):
        LayoutSource(root).manifest("plant/models/m", "1.0.0", bytes_max=1000)


def test_the_folder_itself_may_be_a_link_as_mount_points_are(root: Path, tmp_path: Path) -> None:
    (tmp_path / "media").symlink_to(root)
    assert read(LayoutSource(tmp_path / "media")) == (0, BLOB)


def test_a_blob_that_is_a_link_is_not_read(root: Path) -> None:
    as_link(root, f"blobs/sha256/{DIGEST[7:]}")
    with pytest.raises(Malformed, match="is a link"):
        LayoutSource(root).blob("plant/models/m", DIGEST)
    assert not LayoutTarget(root).has_blob("plant/models/m", DIGEST)


@pytest.mark.parametrize("wrong", [BLOB[:-1], BLOB + b"x", BLOB[::-1], b""])
def test_only_the_bytes_of_a_digest_are_put_under_it(tmp_path: Path, wrong: bytes) -> None:
    target = LayoutTarget(tmp_path / "new")
    with pytest.raises(Malformed):
        target.put_blob("r", DIGEST, len(BLOB), lambda: (wrong,))
    assert not target.has_blob("r", DIGEST)
    assert list((tmp_path / "new/blobs/sha256").iterdir()) == []


def test_a_blob_that_has_decayed_is_put_again(root: Path) -> None:
    path, target = root / "blobs/sha256" / DIGEST[7:], LayoutTarget(root)
    assert target.has_blob("r", DIGEST)
    path.write_bytes(BLOB[:-1] + b"?")
    assert not target.has_blob("r", DIGEST)
    target.put_blob("r", DIGEST, len(BLOB), lambda: (BLOB,))
    assert read(LayoutSource(root)) == (0, BLOB)


@pytest.mark.parametrize("folder", ["blobs", "blobs/sha256"])
def test_nothing_is_written_through_a_link(root: Path, folder: str) -> None:
    as_link(root, folder)
    before = sorted(path.name for path in (root.parent / "outside").rglob("*"))
    with pytest.raises(Malformed, match="is a link"):
        LayoutTarget(root).put_blob("r", digest_of(b"new"), 3, lambda: (b"new",))
    assert sorted(path.name for path in (root.parent / "outside").rglob("*")) == before


POINTS = ["layout.blob.write", "layout.blob.sync", "layout.blob.rename", "layout.index.write", "layout.index.fsync",
          "layout.index.rename", "layout.index.folder"]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_medium_that_fails_keeps_what_was_there_and_the_next_try_completes(
    root: Path, point: str, action: str
) -> None:
    data = b'{"another": "manifest"}'
    faults.arm(f"{point}={action}")
    try:
        with pytest.raises(Unreachable, match="cannot be written"):
            LayoutTarget(root).put_manifest("plant/models/m", "2.0.0", MANIFEST_TYPE, data)
    finally:
        faults.arm("")
    source = LayoutSource(root)
    assert source.manifest("plant/models/m", "1.0.0", bytes_max=1000)
    left = root / "blobs/sha256" / f".{'0' * 64}.1.tmp"
    left.write_bytes(b"of a try that was killed")
    LayoutTarget(root).put_manifest("plant/models/m", "2.0.0", MANIFEST_TYPE, data)
    found = source.manifest("plant/models/m", "2.0.0", bytes_max=1000)
    assert found is not None
    assert found.data == data
    assert not left.exists()
    assert source.tags("plant/models/m") == ["1.0.0", "2.0.0"]
