"""Guards for what updater.py replaces in python-tuf: these fail when a new version of the library works differently."""

import inspect
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError, ExpiredMetadataError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from appliance.osutil import durable
from appliance.registry.trust.updater import CONFIG, BoxUpdater
from tests.support.tuf_repository import TufRepository


class FromMemory(FetcherInterface):
    def __init__(self, repo: TufRepository) -> None:
        self.repo = repo

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name not in self.repo.files:
            raise DownloadHTTPError(name, 404)
        return iter([self.repo.files[name]])


def updater(repo: TufRepository, folder: Path, now: datetime) -> BoxUpdater:
    return BoxUpdater(folder, "x:/", FromMemory(repo), now=now, bootstrap=repo.files["1.root.json"])


def time_of(repo: TufRepository) -> datetime:
    return datetime.fromtimestamp(repo.now_s(), timezone.utc)


def test_the_methods_that_are_replaced_are_there() -> None:
    assert list(inspect.signature(Updater._persist_file).parameters) == ["self", "filename", "data"]
    assert list(inspect.signature(Updater._update_root_symlink).parameters) == ["self"]


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "models.press"])
def test_expiry_is_judged_by_the_time_that_is_given(repo: TufRepository, tmp_path: Path, role: str) -> None:
    """The repository's clock stands in 2023: with the machine's time every role would be expired."""
    at = repo.signed(role).expires
    for other in ("root", "snapshot", "timestamp", "targets", "models.press"):
        repo.signed(other).expires = at + timedelta(days=0 if other == role else 1)
    repo.write("root")
    repo.files["1.root.json"] = repo.write("root")
    for each in ("targets", "models.press"):
        repo.write(each)
    repo.renew = lambda *_: None  # type: ignore[method-assign]
    repo.publish_online()
    fresh = updater(repo, tmp_path / "a", at - timedelta(seconds=1))
    fresh.refresh()
    assert fresh.get_targetinfo("models/press/1.0.0/manifest.json") is not None
    late = updater(repo, tmp_path / "b", at)
    with pytest.raises(ExpiredMetadataError):
        late.get_targetinfo("models/press/1.0.0/manifest.json")  # and refresh before it


def test_every_file_is_written_durably(repo: TufRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    plain = durable.write

    def write(path: Path, data: bytes, **more: object) -> None:
        written.append(path.relative_to(tmp_path).as_posix())
        plain(path, data, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(durable, "write", write)
    repo.publish_root()
    one = updater(repo, tmp_path, time_of(repo))
    one.refresh()
    one.get_targetinfo("models/press/1.0.0/manifest.json")
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert sorted(written) == sorted(there - {"root.json"})
    assert len(written) == 6
    assert (tmp_path / "root.json").readlink() == Path("root_history/2.root.json")
    written.clear()
    updater(repo, tmp_path, time_of(repo)).refresh()
    assert written == []  # an idle poll writes nothing


def test_root_json_is_never_missing(repo: TufRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library removes the link before it makes the new one."""
    updater(repo, tmp_path, time_of(repo)).refresh()
    repo.publish_root()
    removed: list[str] = []
    plain = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda self, **more: (removed.append(self.name), plain(self, **more))[1])
    monkeypatch.setattr("os.remove", lambda name: removed.append(str(name)))
    updater(repo, tmp_path, time_of(repo)).refresh()
    assert "root.json" not in {Path(name).name for name in removed}


def test_the_bounds_are_not_wider_than_the_librarys() -> None:
    theirs = UpdaterConfig()
    for name in vars(theirs):
        if name.endswith(("max_length", "max_delegations", "max_root_rotations")):
            assert getattr(CONFIG, name) <= getattr(theirs, name), name


def test_the_targets_and_lines_that_a_client_may_walk_are_enough() -> None:
    assert CONFIG.max_delegations >= 2
    assert CONFIG.prefix_targets_with_hash
