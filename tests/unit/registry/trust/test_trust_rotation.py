"""Keys come and go: rotation of every role, thresholds, what stolen keys are still worth, and the way back from them."""

import pytest

from appliance.registry.trust.failures import Untrusted
from tests.support.trust_box import Box
from tests.support.tuf_repository import TufRepository

BOTH = [("press", "1.0.0"), ("weld", "2.0.0")]
ONLINE = ["timestamp", "snapshot"]
ROLES = ["root", "targets", *ONLINE, "models.press"]


def rotate(repo: TufRepository, role: str) -> list:
    """Rotates properly and publishes everything that follows; the old keys."""
    old = repo.rotate(role)
    if role in ("root", "targets", *ONLINE):
        repo.publish_root(old if role == "root" else ())
    repo.publish(*[r for r in (role, "targets") if r not in ("root", *ONLINE)])
    return old


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("seen", [True, False], ids=["seen before", "fresh box"])
def test_every_role_rotates(box: Box, repo: TufRepository, role: str, seen: bool) -> None:
    if seen:
        box.trust.refresh()
    rotate(repo, role)
    assert box.versions() == BOTH
    rotate(repo, role)
    repo.release("press", "1.1.0")
    repo.publish("models.press")
    box.restart()
    assert ("press", "1.1.0") in box.versions()


@pytest.mark.parametrize("role", [*ONLINE, "targets", "models.press"])
def test_what_was_rotated_out_signs_nothing_any_more(box: Box, repo: TufRepository, role: str) -> None:
    box.trust.refresh()
    stolen = rotate(repo, role)
    box.trust.refresh()
    repo.release("press", "6.6.6")
    if role in ONLINE:
        for each in ("snapshot", "timestamp"):
            repo.signed(each).version += 1
        repo.point_timestamp(repo.write("snapshot", stolen if role == "snapshot" else None))
        repo.write("timestamp", stolen if role == "timestamp" else None)
    else:
        repo.publish(role, signers={role: stolen})
    if role == "models.press":
        verified = box.trust.refresh()
        assert [(p.line, p.reason) for p in verified.problems] == [("press", "METADATA_UNTRUSTED")]
    else:
        with pytest.raises(Untrusted, match="not signed by enough"):
            box.trust.refresh()
    assert box.last() == BOTH


def test_a_root_needs_the_old_keys_and_the_new_ones(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    old = repo.rotate("root")
    repo.signed("root").version = 2
    new = repo.signers["root"]
    for signers in (new, old, [*old[:1], *new], [*old, *new[:1]]):
        repo.write("root", signers)
        with pytest.raises(Untrusted, match=r"2.root.json .* not signed by enough"):
            box.trust.refresh()
    repo.write("root", [*old, *new])
    assert box.versions() == BOTH


def test_a_raised_threshold_counts(box: Box, repo: TufRepository) -> None:
    repo.add_keys("targets", 2)
    repo.threshold("targets", 2)
    repo.publish_root()
    repo.publish("targets", signers={"targets": repo.signers["targets"][:1]})
    with pytest.raises(Untrusted, match=r"targets.json .* not signed by enough"):
        box.trust.refresh()
    repo.publish("targets", signers={"targets": repo.signers["targets"][1:]})
    assert box.versions() == BOTH


def test_a_box_that_was_away_follows_every_root(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    for _ in range(5):
        rotate(repo, "root")
    assert box.versions() == BOTH
    assert (box.cache / "root_history/6.root.json").exists()
    box.restart()
    box.source.asked.clear()
    box.trust.refresh()
    assert box.source.asked[0] == "acme/tuf:7.root.json"  # the newest is kept: nothing is walked again


def test_a_gap_between_roots_cannot_be_jumped(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    rotate(repo, "root")
    rotate(repo, "timestamp")
    repo.files["2.root.json"] = repo.files["3.root.json"]
    with pytest.raises(Untrusted):
        box.trust.refresh()
    del repo.files["2.root.json"]  # the walk ends at 1, whose keys don't know the timestamp's signature
    with pytest.raises(Untrusted, match=r"timestamp.json .* not signed by enough"):
        box.trust.refresh()
    assert box.last() == BOTH


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_recovery_from_fast_forward(box: Box, repo: TufRepository, role: str) -> None:
    """Specification clause 5.3.11: new keys for the online roles forget the versions that an attacker drove up."""
    box.trust.refresh()
    repo.signed(role).version = 999_999
    if role == "targets":
        repo.write("targets")
    repo.publish_online()
    assert box.versions() == BOTH
    for each in ONLINE:
        repo.rotate(each)
    repo.publish_root()
    repo.signed(role).version = 7
    if role == "targets":
        repo.write("targets")
    repo.publish_online()
    assert box.versions() == BOTH
    assert {r.name: r.version for r in box.trust.refresh().roles}[role] <= 8


def test_without_new_keys_there_is_no_way_back(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    repo.signed("timestamp").version = 999_999
    repo.write("timestamp")
    box.trust.refresh()
    repo.signed("timestamp").version = 7
    repo.write("timestamp")
    with pytest.raises(Untrusted, match="older than what was verified"):
        box.trust.refresh()


def test_a_compromised_lines_releases_are_gone_with_its_keys(box: Box, repo: TufRepository) -> None:
    """The old file is still on the box, and is nobody's word any more, also when the registry has no new one."""
    box.trust.refresh()
    repo.rotate("models.press")
    repo.publish("targets")  # and the line's own metadata are not signed anew
    verified = box.trust.refresh()
    assert [(p.line, p.reason) for p in verified.problems] == [("press", "METADATA_UNTRUSTED")]
    assert box.last() == BOTH[1:]
