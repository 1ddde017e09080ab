"""Wrong software: what a line's keys may say, and about whom. One bad line never costs the others."""

import json
from typing import Any

import pytest

from appliance.registry.release import target_path
from appliance.registry.sources.failures import Unreachable
from appliance.registry.trust.failures import Untrusted
from tests.support.trust_box import Box
from tests.support.tuf_repository import TufRepository

BOTH = [("press", "1.0.0"), ("weld", "2.0.0")]


def problems(box: Box) -> list[tuple[str, str]]:
    return [(p.line, p.reason) for p in box.trust.refresh().problems]


def test_a_lines_keys_release_another_line(box: Box, repo: TufRepository) -> None:
    repo.release("weld", "6.6.6", role="models.press")
    repo.publish("models.press")
    verified = box.trust.refresh()
    assert sorted((r.line, r.version) for r in verified.releases) == BOTH
    assert [(p.line, p.reason) for p in verified.problems] == [("press", "BAD_RELEASE")]
    assert "'models/weld/6.6.6/manifest.json', which is not theirs to sign" in verified.problems[0].message


def test_a_lines_keys_sign_the_file_of_another_line(box: Box, repo: TufRepository) -> None:
    repo.release("weld", "6.6.6")
    repo.publish("models.weld", signers={"models.weld": repo.signers["models.press"]})
    assert box.versions() == BOTH[:1]
    assert problems(box) == [("weld", "METADATA_UNTRUSTED")]


def test_the_file_of_another_line_under_this_ones_name(box: Box, repo: TufRepository) -> None:
    repo.files["2.models.press.json"] = repo.files["2.models.weld.json"]
    repo.publish_online()
    assert box.versions() == BOTH[1:]


@pytest.mark.parametrize(
    "path",
    ["models/press/../weld/manifest.json", "models/press/9.0.0/x/manifest.json", "models/press/9.0.0/other.json",
     "/models/press/9.0.0/manifest.json", "models/press//manifest.json", "models/press/a b/manifest.json"],
)  # fmt: skip
def test_paths_that_are_no_release(box: Box, repo: TufRepository, path: str) -> None:
    targets = repo.signed("models.press").targets
    targets[path] = targets[target_path("press", "1.0.0")]
    repo.publish("models.press")
    assert box.versions() == BOTH
    assert problems(box) == [("press", "BAD_RELEASE")]


@pytest.mark.parametrize(
    "repository", ["../../other", "acme/../x", "ACME/models", "acme//x", "", "http://evil.example/x", "a" * 300, "a b"]
)
def test_repositories_that_are_none(box: Box, repo: TufRepository, repository: str) -> None:
    repo.release("press", "1.2.0", repository=repository)
    repo.publish("models.press")
    assert box.versions() == BOTH
    assert problems(box) == [("press", "BAD_RELEASE")]


@pytest.mark.parametrize(
    ("paths", "others"),
    [(["*/*/*/*"], 0), (["models/*/*/manifest.json"], 0), (["models/press/*/manifest.json", "models/weld/2*/*"], 0),
     (["models/other/*/manifest.json"], 1), (["models/press/*/*"], 1)],
)  # fmt: skip
def test_a_delegation_that_is_not_just_its_lines_is_none(
    box: Box, repo: TufRepository, paths: list[str], others: int
) -> None:
    """Also one that the targets keys have signed; what it takes of a line behind it is nobody's."""
    repo.signed("targets").delegations.roles["models.press"].paths = paths
    repo.publish("targets")
    verified = box.trust.refresh()
    assert verified.lines == ("weld",)
    assert ("models.press", "METADATA_UNTRUSTED") in [(p.line, p.reason) for p in verified.problems]
    assert [r.line for r in verified.releases] == ["weld"] * others
    assert bool([p for p in verified.problems if p.line == "weld"]) != bool(others)


def test_a_role_before_the_line_that_takes_its_paths(box: Box, repo: TufRepository) -> None:
    """By the specification the first terminating role decides; the line's own file is never even asked for."""
    box.trust.refresh()
    repo.add_line("grab", ["*/*/*/*"])
    roles = repo.signed("targets").delegations.roles
    repo.signed("targets").delegations.roles = {"models.grab": roles.pop("models.grab"), **roles}
    repo.release("press", "6.6.6", role="models.grab")
    repo.renew("models.grab")
    repo.write("models.grab")
    repo.publish("targets", "models.press")
    verified = box.trust.refresh()
    assert verified.releases == ()
    assert {p.line for p in verified.problems} == {"models.grab", "press", "weld"}


def test_targets_beside_the_lines_are_no_releases(box: Box, repo: TufRepository) -> None:
    repo.release("press", "3.0.0", role="targets")
    repo.release("weld", "2.0.0", b"another", role="targets")
    repo.publish("targets")
    assert box.versions() == BOTH[:1]
    assert problems(box) == [("weld", "BAD_RELEASE")]


def test_only_wanted_lines_are_fetched(box: Box, repo: TufRepository) -> None:
    verified = box.trust.refresh(lambda line: line == "weld")
    assert [r.line for r in verified.releases] == ["weld"]
    assert verified.lines == ("press", "weld")
    assert not [what for what in box.source.asked if "press" in what]
    assert box.versions() == BOTH


def test_a_line_that_fails_keeps_its_last_releases(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    repo.release("press", "1.1.0")
    repo.release("weld", "2.1.0")
    repo.publish("models.press", "models.weld", signers={"models.press": []})
    assert box.versions() == [("weld", "2.0.0"), ("weld", "2.1.0")]
    assert box.last() == [("press", "1.0.0"), ("weld", "2.0.0"), ("weld", "2.1.0")]
    box.restart()
    assert box.last() == [("press", "1.0.0"), ("weld", "2.0.0"), ("weld", "2.1.0")]
    assert box.versions() == [("weld", "2.0.0"), ("weld", "2.1.0")]
    repo.publish("models.press")
    assert ("press", "1.1.0") in box.versions()


def test_a_withdrawn_release_and_a_removed_line(box: Box, repo: TufRepository) -> None:
    box.trust.refresh()
    del repo.signed("models.press").targets[target_path("press", "1.0.0")]
    repo.publish("models.press")
    assert box.versions() == BOTH[1:]
    del repo.signed("targets").delegations.roles["models.weld"]
    repo.publish("targets")
    assert box.versions() == []
    assert box.last() == []


def test_the_registry_goes_away_between_two_lines(box: Box, repo: TufRepository, monkeypatch: Any) -> None:
    """A torn refresh changes nothing of what was verified last."""
    box.trust.refresh()
    repo.release("press", "1.1.0")
    repo.release("weld", "2.1.0")
    repo.publish("models.press", "models.weld")
    asked = box.source._ask

    def away(what: str) -> None:
        box.source.down = "3.models.weld" in what
        asked(what)

    monkeypatch.setattr(box.source, "_ask", away)
    with pytest.raises(Unreachable):
        box.trust.refresh()
    assert box.last() == BOTH
    box.restart()
    assert box.last() == BOTH
    monkeypatch.undo()
    box.source.down = False
    assert len(box.versions()) == 4


def test_offline_everything_that_was_verified_is_readable(box: Box) -> None:
    box.trust.refresh()
    box.source.down = True
    with pytest.raises(Unreachable):
        box.trust.refresh()
    box.restart()
    box.source.asked.clear()
    assert box.last() == BOTH
    assert box.source.asked == []


def test_a_custom_field_that_is_no_release(box: Box, repo: TufRepository) -> None:
    target = repo.signed("models.press").targets[target_path("press", "1.0.0")]
    target.unrecognized_fields["custom"]["release"]["bytes"] = "many"
    repo.publish("models.press")
    assert box.versions() == BOTH[1:]
    assert problems(box) == [("press", "BAD_RELEASE")]


def test_problems_are_bounded(box: Box, repo: TufRepository) -> None:
    targets = repo.signed("models.press").targets
    good = targets[target_path("press", "1.0.0")]
    for number in range(200):
        targets[f"models/press/{number}/manifest.json"] = good
    repo.publish("models.press")
    assert len(box.trust.refresh().problems) == 20


def test_a_set_of_absurd_size_is_refused(box: Box, repo: TufRepository, monkeypatch: Any) -> None:
    import appliance.limits

    sizes = {name: len(data) for name, data in repo.files.items()}
    top = sizes["1.root.json"] + sizes["timestamp.json"] + sizes["2.snapshot.json"] + sizes["1.targets.json"]
    monkeypatch.setattr(appliance.limits, "tuf_set_bytes_max", top + sizes["2.models.press.json"])
    assert box.versions() == BOTH[:1]
    assert problems(box) == [("weld", "METADATA_UNTRUSTED")]
    assert json.loads((box.chain / "kept").read_bytes().partition(b"\n")[2])["files"].keys() >= {"models.press.json"}


def test_untrusted_is_an_error_for_people() -> None:
    assert Untrusted("x").reason == "METADATA_UNTRUSTED"
