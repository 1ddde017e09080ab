"""What `status` says: releases, expiry, keys, waiting changes, and how far the registry is."""

import pytest
from publishing import Desk, registry

from appliance.publish.release import operations
from appliance.publish.release.settings import Thresholds
from appliance.publish.release.status import status


def told(desk: Desk, remote: bool = True):
    return status(desk.publisher, registry(desk.remote) if remote else None)


def test_fresh(desk):
    found = told(desk)
    assert [(r.role, r.version, r.threshold, len(r.keys)) for r in found.roles] == [
        ("root", 1, 2, 3),
        ("targets", 2, 1, 1),
        ("snapshot", 2, 1, 1),
        ("timestamp", 2, 1, 1),
        ("models.press", 1, 1, 1),
    ]
    assert {r.expiry for r in found.roles} == {"fine"}
    assert all(key.here for r in found.roles for key in r.keys)
    assert (found.registry, found.waiting, found.releases, found.unused_keys) == ("current", None, (), ())


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (0.8, {"timestamp": "soon"}),
        (1.1, {"timestamp": "expired"}),
        (6, {"timestamp": "expired", "snapshot": "soon"}),
        (91, {"timestamp": "expired", "snapshot": "expired", "targets": "expired", "models.press": "expired"}),
    ],
)
def test_expiry(desk, days, expected):
    desk.clock.advance(days * 86_400)
    found = {r.role: r.expiry for r in told(desk).roles if r.expiry != "fine"}
    assert found == expected


def test_releases_and_registry(tmp_path, desk):
    assert told(desk, remote=False).registry == "none"
    desk.pack(tmp_path / "m")
    desk.release(waves=(1.0, 100.0))
    found = told(desk)
    assert found.registry == "behind"
    assert [(r.line, r.version, len(r.waves)) for r in found.releases] == [("press", "1.0.0", 2)]
    desk.publish()
    assert told(desk).registry == "current"


def test_somebody_else_has_published(tmp_path, desk):
    import shutil

    shutil.copytree(desk.folder, tmp_path / "other")
    other = Desk(tmp_path / "other", desk.remote)
    operations.refresh(other.publisher)
    other.publish()
    assert told(desk).registry == "newer"


def test_waiting_and_unused_keys(tmp_path, desk):
    old = operations.roles.role_keyids(desk.publisher.current(), "targets")[0]
    operations.rotate(desk.publisher, "targets")
    assert told(desk).unused_keys == (f"targets.{old[:16]}",)
    for path in list(desk.workspace.keys.glob("root.*.pem"))[:2]:
        path.rename(tmp_path / path.name)
    desk.open()
    operations.refresh(desk.publisher, ["root"])
    found = told(desk)
    assert found.waiting is not None
    assert "root has 1 of 2 signatures of the old root" in found.waiting.missing
    assert sum(key.here for r in found.roles if r.role == "root" for key in r.keys) == 1


def test_before_the_first_metadata(tmp_path):
    desk = Desk(tmp_path / "new", thresholds=Thresholds(root=2))
    found = told(desk)
    assert (found.roles, found.registry) == ((), "none")
