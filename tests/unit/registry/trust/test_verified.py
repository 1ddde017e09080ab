"""Reading a set of files that nobody has just verified: whatever doesn't fit together is no set."""

import json
from collections.abc import Callable

import pytest

from appliance.registry.trust.failures import Untrusted
from appliance.registry.trust.verified import TOP_FILES, read
from tests.support.tuf_repository import TufRepository

ROLES = ["root", "timestamp", "snapshot", "targets", "models.press", "models.weld"]


def current(repo: TufRepository) -> dict[str, bytes]:
    """The files as a box keeps them."""
    return {f"{role}.json": repo.data(role) for role in ROLES}


def respaced(data: bytes) -> bytes:
    """The same metadata in other bytes: the signatures still are right."""
    return json.dumps(json.loads(data), indent=2).encode()


def test_a_whole_set(repo: TufRepository) -> None:
    verified = read(current(repo), at_s=5)
    assert sorted((r.line, r.version) for r in verified.releases) == [("press", "1.0.0"), ("weld", "2.0.0")]
    assert verified.at_s == 5
    assert [role.name for role in verified.roles] == ROLES
    assert verified.fresh_until_s == min(role.expires_s for role in verified.roles)
    assert read({name: data for name, data in current(repo).items() if name in TOP_FILES}).releases == ()


@pytest.mark.parametrize("name", TOP_FILES)
def test_every_top_level_file_is_needed(repo: TufRepository, name: str) -> None:
    files = current(repo)
    del files[name]
    with pytest.raises(Untrusted, match=f"{name} is missing"):
        read(files)


@pytest.mark.parametrize("older_lines", [False, True])
@pytest.mark.parametrize("role", ["snapshot", "targets", "models.press"])
def test_hashes_count(repo: TufRepository, role: str, older_lines: bool) -> None:
    files = current(repo)
    files[f"{role}.json"] = respaced(files[f"{role}.json"])
    if older_lines and role == "models.press":
        verified = read(files, older_lines=True)
        assert [r.line for r in verified.releases] == ["weld"]
        assert [(p.line, p.reason) for p in verified.problems] == [("press", "METADATA_UNTRUSTED")]
        return
    with pytest.raises(Untrusted, match="don't fit together"):
        read(files, older_lines=older_lines)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "models.press"])
def test_signatures_count(repo: TufRepository, role: str) -> None:
    files = current(repo)
    files[f"{role}.json"] = repo.data(role, repo.signers["root"])
    with pytest.raises(Untrusted, match="don't fit together"):
        read(files)


@pytest.mark.parametrize("other", [r for r in ROLES if r != "root"])
def test_a_file_in_the_place_of_another(repo: TufRepository, other: str) -> None:
    files = current(repo)
    files["root.json"] = files[f"{other}.json"]
    with pytest.raises(Untrusted):
        read(files)


def older(repo: TufRepository) -> dict[str, bytes]:
    """The line's file is of a version before the one that the snapshot names."""
    line = repo.data("models.press")
    repo.publish("models.press")
    return {**current(repo), "models.press.json": line}


def newer(repo: TufRepository) -> dict[str, bytes]:
    files = current(repo)
    repo.signed("models.press").version += 1
    return {**files, "models.press.json": repo.data("models.press")}


@pytest.mark.parametrize(("make", "allowed"), [(older, True), (newer, False)])
def test_lines_of_another_version(
    repo: TufRepository, make: Callable[[TufRepository], dict[str, bytes]], allowed: bool
) -> None:
    files = make(repo)
    with pytest.raises(Untrusted, match="version"):
        read(files)
    assert ("press" in [r.line for r in read(files, older_lines=True).releases]) == allowed
