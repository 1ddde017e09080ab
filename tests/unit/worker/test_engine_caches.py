"""Which folders of the engines' scratch go, and which must stay whatever happens."""

import stat
from pathlib import Path

import pytest

from appliance.worker.engine_caches import EngineCaches

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def filled(caches: EngineCaches, digest: str) -> Path:
    folder = caches.folder(digest)
    folder.mkdir(parents=True)
    (folder / "prefix").write_bytes(b"tokens")
    return folder


def test_what_no_version_needs_goes_at_the_start(tmp_path: Path) -> None:
    caches = EngineCaches(tmp_path)
    kept, stale = filled(caches, ONE), filled(caches, TWO)
    caches.tidy([ONE])
    assert (kept / "prefix").read_bytes() == b"tokens"
    assert not stale.exists()


@pytest.mark.parametrize("before", [None, 0o755])
def test_nobody_else_may_read_it(tmp_path: Path, before: int | None) -> None:
    if before is not None:
        (tmp_path / "cache").mkdir(mode=before)
    EngineCaches(tmp_path).tidy([])
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_a_version_takes_its_folder_with_it(tmp_path: Path) -> None:
    caches = EngineCaches(tmp_path)
    gone, other = filled(caches, ONE), filled(caches, TWO)
    caches.forget(ONE)
    caches.forget(ONE)  # there is none any more, which is as well
    assert not gone.exists()
    assert other.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    """A file, a folder by another name, a link that leads out, and digests that would lead out."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"")
    root = tmp_path / "cache"
    (root / "lost+found").mkdir(parents=True)
    (root / "sha256-3").write_bytes(b"")
    link = root / f"sha256-{'4' * 64}"
    link.symlink_to(outside)
    caches = EngineCaches(tmp_path)
    caches.tidy([])
    for digest in ("", ".", "..", "../outside", "/", f"sha256:{'4' * 64}"):
        caches.forget(digest)
    assert {entry.name for entry in root.iterdir()} == {"lost+found", "sha256-3", link.name}
    assert (outside / "precious").exists()


def test_a_state_folder_that_is_not_there_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    EngineCaches(tmp_path / "nowhere").tidy([ONE])
    assert not (tmp_path / "nowhere").exists()
    assert "cannot be used" in caplog.text
