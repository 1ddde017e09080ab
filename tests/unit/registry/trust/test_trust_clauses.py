"""The steps of TUF's client workflow (specification 1.0, clause 5) that no attack of the other files comes by.

README.md of the package has the table of all clauses and their tests; the last test here keeps it true.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import MetaFile

import appliance.registry.trust
from appliance import limits
from appliance.registry.trust.failures import Expired, Untrusted
from tests.support.trust_box import Box
from tests.support.tuf_repository import TufRepository

BOTH = [("press", "1.0.0"), ("weld", "2.0.0")]
DAY = 86_400
README = Path(appliance.registry.trust.__file__).with_name("README.md")
CLAUSES = ("5.1", "5.2", *(f"5.3.{n}" for n in range(3, 13)), *(f"5.4.{n}" for n in range(1, 6)),
           *(f"5.5.{n}" for n in range(1, 8)), *(f"5.6.{n}" for n in range(1, 8)), "5.7.1", "5.7.2", "5.7.3")  # fmt: skip


def test_one_refresh_has_one_time(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """5.1: a slow mirror, whose every answer takes ten days, doesn't let the first of them expire the last."""
    monkeypatch.setattr(box.source, "_ask", lambda what: box.clock.advance(10 * DAY))
    assert box.versions() == BOTH
    with pytest.raises(Expired):  # and the next one has another time
        box.trust.refresh()


def test_roots_without_end(box: Box, repo: TufRepository) -> None:
    """5.3.3: so many for one refresh; a box that was away for very long takes several."""
    newest = limits.tuf_root_rotations_max + 3
    while repo.signed("root").version < newest:
        repo.publish_root()
    assert box.versions() == BOTH
    assert sum(asked.endswith(".root.json") for asked in box.source.asked) == limits.tuf_root_rotations_max
    assert box.versions() == BOTH
    assert (box.cache / f"root_history/{newest}.root.json").exists()


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_of_another_version_than_the_next(box: Box, repo: TufRepository, version: int) -> None:
    """5.3.5: all its signatures are good."""
    box.trust.refresh()
    repo.signed("root").version = version
    repo.files["2.root.json"] = repo.data("root")
    with pytest.raises(Untrusted, match=r"2.root.json .* older than what was verified before, or of another version"):
        box.trust.refresh()
    assert box.last() == BOTH


def test_a_root_on_the_way_may_be_expired_and_the_last_one_not(box: Box, repo: TufRepository) -> None:
    """5.3.6, 5.3.8 and 5.3.10: the expired root is kept all the same, as what the next one must be signed by."""
    box.trust.refresh()
    repo.signed("root").version = 2
    repo.renew("root", days=-1)
    repo.write("root")
    with pytest.raises(Expired):
        box.trust.refresh()
    assert (box.cache / "root_history/2.root.json").exists()
    repo.publish_root()
    assert box.versions() == BOTH


def test_a_later_root_without_consistent_snapshots(box: Box, repo: TufRepository) -> None:
    """5.3.12: files have no version in their names then."""
    repo.signed("root").consistent_snapshot = False
    repo.publish_root()
    with pytest.raises(Untrusted, match=r"snapshot.json from registry.example is missing"):
        box.trust.refresh()
    assert box.source.asked[-1] == "acme/tuf:snapshot.json"
    for role in ("snapshot", "targets", "models.press", "models.weld"):
        repo.files[f"{role}.json"] = repo.files[f"{repo.signed(role).version}.{role}.json"]
    assert box.versions() == BOTH


def test_another_timestamp_of_the_same_version(box: Box, repo: TufRepository) -> None:
    """5.4.3: it is not looked at, also when its signature is good."""
    box.trust.refresh()
    known = repo.signed("timestamp").version
    repo.release("press", "1.1.0")
    repo.publish("models.press")
    repo.signed("timestamp").version = known
    repo.write("timestamp")
    assert box.versions() == BOTH
    repo.signed("timestamp").version = known + 1
    repo.write("timestamp")
    assert ("press", "1.1.0") in box.versions()


def test_a_timestamp_that_names_an_older_snapshot(box: Box, repo: TufRepository) -> None:
    """5.4.3: the snapshot's version counts before any of it is fetched."""
    box.trust.refresh()
    repo.publish("models.press")
    box.trust.refresh()
    repo.signed("timestamp").version += 1
    repo.signed("timestamp").snapshot_meta = MetaFile.from_data(1, repo.files["1.snapshot.json"], ["sha256"])
    repo.write("timestamp")
    box.source.asked.clear()
    with pytest.raises(Untrusted, match=r"timestamp.json .* older than what was verified before"):
        box.trust.refresh()
    assert box.source.asked[-1] == "acme/tuf:timestamp.json"


@pytest.mark.parametrize("role", ["snapshot", "targets", "models.press"])
@pytest.mark.parametrize("hashes", [True, False], ids=["with its hash", "without a hash"])
def test_a_file_of_another_version_than_the_list_names(box: Box, repo: TufRepository, role: str, hashes: bool) -> None:
    """5.5.4 and 5.6.4: signature, length and hash are right, the version is not."""
    box.trust.refresh()
    repo.publish(*[] if role == "snapshot" else [role])
    number = repo.signed(role).version
    repo.files[f"{number + 1}.{role}.json"] = data = repo.data(role)
    wrong = MetaFile.from_data(number + 1, data, ["sha256"]) if hashes else MetaFile(number + 1)
    if role != "snapshot":
        repo.signed("snapshot").meta[f"{role}.json"] = wrong
        repo.signed("snapshot").version += 1
        repo.point_timestamp(repo.write("snapshot"))
    else:
        repo.signed("timestamp").snapshot_meta = wrong
    repo.signed("timestamp").version += 1
    repo.write("timestamp")
    if role == "models.press":
        (problem,) = box.trust.refresh().problems
        assert (problem.line, problem.reason) == ("press", "METADATA_UNTRUSTED")
        assert "of another version than the list names" in problem.message
    else:
        with pytest.raises(Untrusted, match="of another version than the list names"):
            box.trust.refresh()
    assert box.last() == BOTH


def clauses() -> list[tuple[str, list[str]]]:
    """(clauses, tests) of each row of the table in README.md."""
    rows: list[Any] = re.findall(r"^\| (5\.[^|]*)\|[^|]*\|([^|]*)\|$", README.read_text("utf-8"), re.MULTILINE)
    return [(clause, re.findall(r"`(\w+)`", tests)) for clause, tests in rows]


def test_the_table_of_clauses_has_all_of_them_and_names_tests_that_are_there() -> None:
    text = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    known = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    named = {f"test_{test}" for _, tests in clauses() for test in tests}
    assert named <= known
    assert [clause for row, _ in clauses() for clause in re.findall(r"5[.\d]+", row)] == list(CLAUSES)
    assert all(tests for _, tests in clauses())
