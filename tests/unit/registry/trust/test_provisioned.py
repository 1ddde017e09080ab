"""A machine that is set up by nobody: the configuration's root of trust counts, once, and only where there is none."""

from pathlib import Path

import pytest

from appliance import events
from appliance.clock import FakeClock
from appliance.registry.trust.failures import NoRoot
from appliance.registry.trust.provisioned import install_first
from tests.support.trust_box import Box
from tests.support.tuf_repository import TufRepository, TufSource


@pytest.fixture
def empty(tmp_path: Path, repo: TufRepository, clock: FakeClock) -> Box:
    """Trusts nobody yet."""
    return Box(tmp_path / "new", TufSource(repo), clock)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.facts["event"] for record in caplog.records]


def test_it_counts_where_none_is_installed(
    empty: Box, repo: TufRepository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "root.json").write_bytes(repo.files["1.root.json"])
    install_first(empty.trust, str(tmp_path / "root.json"))
    assert empty.trust.refresh().releases
    assert told(caplog) == [events.TRUST_INSTALLED.name]
    install_first(empty.trust, str(tmp_path / "root.json"))
    assert len(caplog.records) == 1


def test_it_never_replaces_one(box: Box, tmp_path: Path, clock: FakeClock) -> None:
    before = box.trust.root().facts
    (tmp_path / "root.json").write_bytes(TufRepository(clock).files["1.root.json"])
    install_first(box.trust, str(tmp_path / "root.json"))
    assert box.trust.root().facts == before


@pytest.mark.parametrize(
    ("data", "words"), [(None, "No such file"), (b"{}", "no root of trust"), (b" " * 10**6, "more than")]
)
def test_what_is_wrong_with_it_is_told_and_then_there_is_no_trust(
    empty: Box, tmp_path: Path, data: bytes | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    if data is not None:
        (tmp_path / "root.json").write_bytes(data)
    install_first(empty.trust, str(tmp_path / "root.json"))
    assert words in caplog.text
    assert told(caplog) == [events.TRUST_REFUSED.name]
    with pytest.raises(NoRoot):
        empty.trust.root()


def test_none_is_named(empty: Box) -> None:
    install_first(empty.trust, "")
    with pytest.raises(NoRoot):
        empty.trust.root()
