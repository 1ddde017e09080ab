"""Installing the root of trust: what a person is shown, what is refused, and what happens to what was there before."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from appliance.clock import FakeClock
from appliance.registry.trust import root as roots
from appliance.registry.trust.failures import BadRoot, NoRoot
from tests.support.trust_box import Box
from tests.support.tuf_repository import LIFE_DAYS, TufRepository, TufSource


def test_the_facts(repo: TufRepository) -> None:
    data = repo.files["1.root.json"]
    facts = roots.inspect(data)
    assert facts.version == 1
    assert facts.expires_s == repo.now_s() + LIFE_DAYS["root"] * 86_400
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert [(r.name, r.threshold, len(r.fingerprints)) for r in facts.roles] == [
        ("root", 2, 2), ("snapshot", 1, 1), ("targets", 1, 1), ("timestamp", 1, 1),
    ]  # fmt: skip
    known = {signer.public_key.keyid for signer in repo.signers["root"]}
    assert set(facts.roles[0].fingerprints) == known


def test_a_fingerprint_is_of_the_key_whatever_its_id_says(repo: TufRepository) -> None:
    """An attacker's root may call its key what the publisher's is called."""
    known = repo.signers["timestamp"][0].public_key.keyid
    evil = CryptoSigner.generate_ed25519().public_key
    real = evil.keyid
    evil.keyid = known
    root = repo.signed("root")
    root.keys[known] = evil
    shown = roots.inspect(repo.data("root"))
    assert shown.roles[3].fingerprints == (real,)


def bent(repo: TufRepository, bend: Callable[[Any], None]) -> bytes:
    bend(repo.signed("root"))
    return repo.data("root")


BENDS: list[tuple[str, Callable[[Any], None], str]] = [
    ("no consistent snapshots", lambda root: setattr(root, "consistent_snapshot", False), "consistent snapshots"),
    ("too few keys", lambda root: setattr(root.roles["targets"], "threshold", 2), "wants 2 signatures and has 1"),
    ("too few signatures", lambda root: setattr(root.roles["root"], "threshold", 3), "signed by its own keys"),
]


@pytest.mark.parametrize(("bend", "words"), [row[1:] for row in BENDS], ids=[row[0] for row in BENDS])
def test_roots_that_would_not_do(repo: TufRepository, bend: Callable[[Any], None], words: str) -> None:
    with pytest.raises(BadRoot, match=words):
        roots.inspect(bent(repo, bend))


def test_one_key_twice_is_not_two(repo: TufRepository) -> None:
    twin = CryptoSigner.generate_ed25519().public_key
    key = repo.signers["targets"][0].public_key
    twin.keyval = key.keyval
    root = repo.signed("root")
    root.add_key(twin, "targets")
    root.roles["targets"].threshold = 2
    with pytest.raises(BadRoot, match="wants 2 signatures and has 1 different"):
        roots.inspect(repo.data("root"))


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"\xff", b"[" * 100_000, b" " * 600_000, b'{"signed":{"_type":"root"},"signatures":[]}'],
)
def test_bytes_that_are_no_root(box: Box, data: bytes) -> None:
    with pytest.raises(BadRoot):
        box.trust.install(data, force=True)
    assert box.trust.root().facts.version == 1


def test_other_roles_and_edited_roots_are_none(repo: TufRepository) -> None:
    with pytest.raises(BadRoot, match="type timestamp"):
        roots.inspect(repo.files["timestamp.json"])
    edited = json.loads(repo.files["1.root.json"])
    edited["signed"]["expires"] = "2099-01-01T00:00:00Z"
    with pytest.raises(BadRoot, match="signed by its own keys"):
        roots.inspect(json.dumps(edited).encode())


def test_nothing_is_trusted_before(tmp_path: Path, repo: TufRepository, clock: FakeClock) -> None:
    box = Box(tmp_path / "new", TufSource(repo), clock)
    for call in (box.trust.refresh, box.trust.last, box.trust.root):
        with pytest.raises(NoRoot, match=r"appliance registry trust ROOT.json"):
            call()
    assert box.source.asked == []
    assert box.trust.install(repo.files["1.root.json"]) == "installed"
    assert box.trust.refresh().releases


def test_the_same_again(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    assert box.trust.install(repo.files["1.root.json"]) == "unchanged"
    assert box.last()
    repo.publish_root(repo.rotate("root"))
    box.trust.refresh()
    for version in (1, 2):
        assert box.trust.install(repo.files[f"{version}.root.json"]) == "unchanged"


def test_the_next_root_by_hand(box: Box, repo: TufRepository) -> None:
    """For a box that has no registry which would bring it: then it is followed like any other."""
    box.trust.refresh()
    old = repo.rotate("root")
    repo.publish_root(old)
    repo.rotate("timestamp")
    repo.publish_root()
    repo.publish_online()
    two, three = repo.files.pop("2.root.json"), repo.files.pop("3.root.json")
    with pytest.raises(BadRoot) as caught:
        box.trust.install(three)  # the one between is missing
    assert caught.value.reason == "OTHER_ROOT"
    assert box.trust.install(two) == "next"
    assert box.trust.install(three) == "next"
    assert {role.name: role.version for role in box.trust.refresh().roles}["root"] == 3
    box.restart()
    assert box.trust.root().facts.version == 1  # what a person has seen
    assert box.trust.refresh().releases


def test_a_root_after_the_next(box: Box, repo: TufRepository) -> None:
    """Signed by the very same keys, and still not known to follow: the one between may have revoked them."""
    repo.publish_root()
    repo.publish_root()
    with pytest.raises(BadRoot) as caught:
        box.trust.install(repo.files["3.root.json"])
    assert caught.value.reason == "OTHER_ROOT"


def test_a_root_with_the_next_number_of_somebody_else(box: Box, clock: FakeClock) -> None:
    other = TufRepository(clock)
    other.publish_root()
    with pytest.raises(BadRoot, match="another root of trust is installed") as caught:
        box.trust.install(other.files["2.root.json"])
    assert caught.value.reason == "OTHER_ROOT"
    assert box.trust.refresh().releases


def test_force_begins_anew(box: Box, clock: FakeClock) -> None:
    """Lower version numbers of the other publisher are no rollback; nothing of the old one counts any more."""
    for _ in range(5):
        box.source.repository.publish_online()
    box.trust.refresh()
    other = TufRepository(clock, ["grab"])
    other.release("grab", "1.0.0")
    other.publish("models.grab")
    box.source.repository = other
    assert box.trust.install(other.files["1.root.json"], force=True) == "replaced"
    assert box.last() == []
    assert box.versions() == [("grab", "1.0.0")]
    box.restart()
    assert box.versions() == [("grab", "1.0.0")]
    assert len(list(box.folder.glob("chain.*"))) == 1


def test_an_expired_root_can_be_installed(tmp_path: Path, repo: TufRepository, clock: FakeClock) -> None:
    """One that came with an old package: the roots after it are fetched."""
    clock.advance(400 * 86_400)
    repo.publish_root()
    repo.publish("targets", "models.press", "models.weld")
    box = Box(tmp_path / "new", TufSource(repo), clock)
    assert box.trust.install(repo.files["1.root.json"]) == "installed"
    assert box.trust.refresh().releases


def test_both_copies_lost(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    for name in ("root.json", "root.copy.json"):
        (box.folder / name).write_bytes(b"decayed")
    box.restart()
    with pytest.raises(NoRoot):
        box.trust.refresh()
    assert sorted(path.name for path in box.folder.glob("*.broken")) == ["root.copy.json.broken", "root.json.broken"]
    assert box.trust.install(repo.files["1.root.json"]) == "installed"
    assert box.last()  # the same root: what followed from it still counts
