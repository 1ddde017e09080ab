"""Attacks of TUF's list (specification 1.0, clause 1.5.2) by whoever has the registry, a mirror or some keys.

After each: what was verified before still is what counts, and an honest publisher is believed again.
"""

import json
from collections.abc import Callable

import pytest

from appliance import limits
from appliance.registry.sources.failures import Malformed
from appliance.registry.trust import carried
from appliance.registry.trust.failures import Untrusted
from tests.support.trust_box import Box
from tests.support.tuf_repository import TOP, TufRepository

BOTH = [("press", "1.0.0"), ("weld", "2.0.0")]
NEW = [("press", "1.0.0"), ("press", "1.1.0"), ("weld", "2.0.0")]


def release_new(repo: TufRepository) -> None:
    repo.release("press", "1.1.0")
    repo.publish("models.press")


def refused(box: Box, words: str) -> None:
    """Two refreshes, one after a restart, take nothing; the last releases stay."""
    before = box.last()
    for _ in range(2):
        with pytest.raises(Untrusted, match=words):
            box.trust.refresh()
        assert box.last() == before
        box.restart()


def test_an_honest_repository(box: Box, repo: TufRepository) -> None:
    assert box.last() == []
    assert box.versions() == BOTH
    release_new(repo)
    assert box.versions() == NEW
    assert box.last() == NEW
    box.restart()
    assert box.last() == NEW
    verified = box.trust.refresh()
    assert verified.lines == ("press", "weld")
    assert verified.problems == ()
    assert [(r.name, r.version) for r in verified.roles][:4] == [
        ("root", 1), ("timestamp", 3), ("snapshot", 3), ("targets", 1),
    ]  # fmt: skip
    assert verified.allows("press", "1.0.0", next(r.digest for r in verified.releases if r.version == "1.0.0"))
    assert not verified.allows("press", "1.0.0", "sha256:" + "0" * 64)


def test_an_idle_poll_is_two_requests_and_no_body(box: Box) -> None:
    box.trust.refresh()
    box.source.asked.clear()
    box.source.sent = 0
    box.trust.refresh()
    assert box.source.asked == ["acme/tuf:2.root.json", "acme/tuf:timestamp.json"]
    assert box.source.sent == 0
    box.restart()
    box.trust.refresh()
    assert box.source.sent < 2000


def test_rollback_of_the_timestamp(box: Box, repo: TufRepository) -> None:
    old = dict(repo.files)
    release_new(repo)
    assert box.versions() == NEW
    repo.files = old
    refused(box, r"timestamp.json .* older than what was verified before")


def test_rollback_of_the_snapshot(box: Box, repo: TufRepository) -> None:
    release_new(repo)
    assert box.versions() == NEW
    repo.signed("snapshot").version = 1
    repo.point_timestamp(repo.write("snapshot"))
    repo.signed("timestamp").version += 1
    repo.write("timestamp")
    refused(box, "older than what was verified before")


@pytest.mark.parametrize("role", ["targets", "models.press"])
def test_rollback_of_a_targets_role(box: Box, repo: TufRepository, role: str) -> None:
    old = repo.files[f"{repo.signed(role).version}.{role}.json"]
    number = repo.signed(role).version
    repo.publish(role)
    box.trust.refresh()
    repo.signed(role).version = number
    repo.files[f"{number}.{role}.json"] = old
    repo.publish_online()
    refused(box, "older than what was verified before")


def test_a_role_that_vanishes_from_the_snapshot(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    del repo.roles["models.weld"]
    repo.publish_online()
    refused(box, "missing info for 'models.weld.json'")


def test_rollback_of_the_root(box: Box, repo: TufRepository) -> None:
    """Who has an old root's keys signs a timestamp with them: the box has followed the root that replaced them."""
    stolen = repo.rotate("timestamp")
    repo.publish_root()
    repo.publish_online()
    box.trust.refresh()
    del repo.files["2.root.json"]
    repo.signed("timestamp").version += 1
    repo.write("timestamp", stolen)
    refused(box, "timestamp.json .* not signed by enough")
    (box.cache / "root_history/2.root.json").write_bytes(b"decayed")
    box.restart()
    refused(box, "timestamp.json .* not signed by enough")


def test_freeze_by_replaying_yesterday(box: Box, repo: TufRepository) -> None:
    """Nothing tells yesterday's timestamp from a quiet publisher's, until it expires: test_trust_expiry.py."""
    assert box.versions() == BOTH
    old = dict(repo.files)
    release_new(repo)
    repo.files = old
    assert box.versions() == BOTH


@pytest.mark.parametrize("role", ["snapshot", "targets", "models.press"])
def test_mix_and_match(box: Box, repo: TufRepository, role: str) -> None:
    """Each file is properly signed, and they don't belong together."""
    old = repo.files[f"{repo.signed(role).version}.{role}.json"]
    box.trust.refresh()
    repo.release("press", "1.1.0")
    repo.publish("targets", "models.press")
    repo.files[f"{repo.signed(role).version}.{role}.json"] = old
    if role != "models.press":
        refused(box, "another file than the signed list names")
    else:  # the rest of the repository fits together
        verified = box.trust.refresh()
        assert [(p.line, p.reason) for p in verified.problems] == [("press", "METADATA_UNTRUSTED")]
        assert [r.line for r in verified.releases] == ["weld"]
        assert box.last() == BOTH


@pytest.mark.parametrize("role", [*TOP, "models.press"])
def test_signatures(box: Box, repo: TufRepository, role: str) -> None:
    """No signature, one of a stranger, one of too few, one twice, and another role's."""
    box.trust.refresh()
    strangers = TufRepository(box.clock).signers["root"]
    other = repo.signers["snapshot" if role != "snapshot" else "timestamp"]
    for signers in ([], strangers, repo.signers[role][1:], other):
        if role == "root":
            repo.signed("root").version = 2
            repo.write("root", signers)
        elif role == "timestamp":
            repo.signed("timestamp").version += 1
            repo.write("timestamp", signers)
        elif role == "snapshot":
            repo.signed("snapshot").version += 1
            repo.point_timestamp(repo.write("snapshot", signers))
            repo.signed("timestamp").version += 1
            repo.write("timestamp")
        else:
            repo.publish(role, signers={role: signers})
        if role != "models.press":
            refused(box, "not signed by enough of its role's keys")
            continue
        verified = box.trust.refresh()
        assert [(p.line, "not signed by enough" in p.message) for p in verified.problems] == [("press", True)]
        assert [r.line for r in verified.releases] == ["weld"]
        assert box.last() == BOTH


def test_one_signature_under_two_names_is_one(box: Box, repo: TufRepository) -> None:
    repo.signed("root").version = 2
    data = json.loads(repo.data("root", repo.signers["root"][:1]))
    twin = dict(data["signatures"][0], keyid=repo.signers["root"][1].public_key.keyid)
    data["signatures"].append(twin)
    repo.files["2.root.json"] = json.dumps(data).encode()
    refused(box, "not signed by enough")


# Behind the snapshot each length is signed, and a byte more is too many.
BOUNDS = {
    "2.root.json": limits.tuf_root_bytes_max,
    "timestamp.json": limits.tuf_timestamp_bytes_max,
    "2.snapshot.json": 1000,
    "1.targets.json": 2000,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_endless_data(box: Box, repo: TufRepository, name: str) -> None:
    """A file beyond its bound is refused by its descriptor already; no byte of it is fetched."""
    repo.files[name] = b" " * (BOUNDS[name] + 1)
    with pytest.raises(Untrusted, match=f"{name} .* is larger than it may be"):
        box.trust.refresh()
    assert box.source.sent < 2 * limits.tuf_manifest_bytes_max


def _absurd_size(manifest: dict[str, object]) -> None:
    manifest["layers"][0].update(size=10**18, data="")  # type: ignore[index]


def _no_layer(manifest: dict[str, object]) -> None:
    manifest["layers"] = []


@pytest.mark.parametrize("bend", [_absurd_size, _no_layer])
def test_bent_manifests_of_metadata(box: Box, repo: TufRepository, bend: Callable[[dict[str, object]], None]) -> None:
    manifest = json.loads(carried.encode("timestamp.json", repo.files["timestamp.json"]).manifest)
    bend(manifest)
    box.source.manifests["timestamp.json"] = json.dumps(manifest).encode()
    with pytest.raises(Malformed):
        box.trust.refresh()
    box.source.manifests.clear()
    assert box.versions() == BOTH


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "1.targets.json"])
def test_withheld_files(box: Box, repo: TufRepository, name: str) -> None:
    kept = repo.files.pop(name)
    with pytest.raises(Untrusted, match=f"{name} from registry.example is missing"):
        box.trust.refresh()
    repo.files[name] = kept
    assert box.versions() == BOTH


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"[" * 100_000, b"{}", b'{"signed": 1, "signatures": []}', b"null"])
@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json"])
def test_junk(box: Box, repo: TufRepository, name: str, junk: bytes) -> None:
    good = repo.files.pop(name, b"")
    repo.files[name] = junk[: limits.tuf_timestamp_bytes_max]
    with pytest.raises(Untrusted):
        box.trust.refresh()
    del repo.files[name]
    repo.files.update({name: good} if good else {})
    assert box.versions() == BOTH


def test_a_fraction_which_canonical_json_does_not_have(box: Box, repo: TufRepository) -> None:
    timestamp = json.loads(repo.files["timestamp.json"])
    timestamp["signed"]["version"] += 1
    timestamp["signed"]["x"] = 0.5
    repo.files["timestamp.json"] = json.dumps(timestamp).encode()
    refused(box, "timestamp.json .* cannot be read")


def test_a_manifest_that_is_not_the_signed_one(box: Box, repo: TufRepository) -> None:
    release = next(r for r in box.trust.refresh().releases if r.line == "press")
    good = repo.manifests[release.repository, release.digest]
    assert box.trust.manifest(release) == good
    for bad in (good[:-1], good[:-1] + b"!", b""):
        repo.manifests[release.repository, release.digest] = bad
        with pytest.raises(Untrusted, match=r"press 1\.0\.0 .* not the signed one"):
            box.trust.manifest(release)
