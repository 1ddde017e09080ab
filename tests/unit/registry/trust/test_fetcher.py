"""TUF files by tag: conditional requests, large files as blobs, and sources that lie or dawdle."""

from typing import Any

import pytest
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError

from appliance import limits
from appliance.clock import FakeClock
from appliance.registry.release import target_path
from appliance.registry.sources.base import Fetched
from appliance.registry.sources.failures import Malformed, Refused, Unreachable
from appliance.registry.trust.fetcher import BASE_URL, RegistryFetcher
from tests.support.trust_box import Box
from tests.support.tuf_repository import PREFIX, MemoryBlob, TufRepository, TufSource

LARGE = b"x" * (limits.tuf_inline_bytes_max + 1)


@pytest.fixture
def source(repo: TufRepository) -> TufSource:
    return TufSource(repo)


@pytest.fixture
def fetcher(source: TufSource, clock: FakeClock) -> RegistryFetcher:
    return RegistryFetcher(source, PREFIX, clock)


def url(name: str) -> str:
    return f"{BASE_URL}{name}"


def test_the_timestamp_is_asked_for_conditionally(fetcher: RegistryFetcher, source: TufSource) -> None:
    first = fetcher.download_bytes(url("timestamp.json"), 16_384)
    sent = source.sent
    assert fetcher.download_bytes(url("timestamp.json"), 16_384) == first
    assert source.sent == sent
    source.repository.publish_online()
    assert fetcher.download_bytes(url("timestamp.json"), 16_384) != first
    assert fetcher.recent is not None
    assert fetcher.recent.name == "timestamp.json"


def test_a_file_that_is_not_there(fetcher: RegistryFetcher) -> None:
    with pytest.raises(DownloadHTTPError) as caught:
        fetcher.download_bytes(url("9.root.json"), 1000)
    assert caught.value.status_code == 404
    assert (fetcher.asked, fetcher.recent) == ("9.root.json", None)


@pytest.mark.parametrize("name", ["..%2F..%2Fx.json", "1.a%20b.json", "1.%C3%A4.json", "1." + "a" * 130 + ".json", ""])
def test_roles_that_no_registry_could_hold(fetcher: RegistryFetcher, source: TufSource, name: str) -> None:
    with pytest.raises(Malformed, match="no registry could hold"):
        fetcher.download_bytes(url(name), 1000)
    assert source.asked == []


def test_a_large_file_is_fetched_as_a_blob(fetcher: RegistryFetcher, source: TufSource) -> None:
    source.repository.files["1.targets.json"] = LARGE
    assert fetcher.download_bytes(url("1.targets.json"), len(LARGE)) == LARGE
    asked = len(source.asked)
    with pytest.raises(DownloadLengthMismatchError):
        fetcher.download_bytes(url("1.targets.json"), len(LARGE) - 1)
    assert len(source.asked) == asked + 1  # its manifest, and no blob


def test_a_small_file_that_is_larger_than_it_may_be(fetcher: RegistryFetcher, source: TufSource) -> None:
    with pytest.raises(DownloadLengthMismatchError):
        fetcher.download_bytes(url("timestamp.json"), 10)


class Lying(MemoryBlob):
    """Sends ``data`` whatever was asked, in pieces of one byte when ``slow``."""

    def __init__(self, data: bytes, clock: FakeClock | None = None) -> None:
        super().__init__(data, 0)
        self.clock = clock

    def read(self, size: int) -> bytes:
        if self.clock is None:
            return super().read(size)
        self.clock.advance(1)
        return super().read(1)


@pytest.mark.parametrize("data", [LARGE[:-1], LARGE[:-1] + b"y", b"", b"y" + LARGE])
def test_a_blob_that_is_another(fetcher: RegistryFetcher, source: TufSource, data: bytes, monkeypatch: Any) -> None:
    source.repository.files["1.targets.json"] = LARGE
    monkeypatch.setattr(source, "blob", lambda *a, **k: Lying(data))
    with pytest.raises(Malformed, match="not what its digest says"):
        fetcher.download_bytes(url("1.targets.json"), len(LARGE))


def test_a_blob_that_dawdles(fetcher: RegistryFetcher, source: TufSource, clock: FakeClock, monkeypatch: Any) -> None:
    source.repository.files["1.targets.json"] = LARGE
    monkeypatch.setattr(source, "blob", lambda *a, **k: Lying(LARGE, clock))
    before = clock.monotonic_ns()
    with pytest.raises(Unreachable, match="too slow"):
        fetcher.download_bytes(url("1.targets.json"), len(LARGE))
    assert clock.monotonic_ns() - before < (limits.tuf_fetch_s_max + 2) * 1e9


def test_not_modified_to_whom_nobody_asked(fetcher: RegistryFetcher, source: TufSource, monkeypatch: Any) -> None:
    monkeypatch.setattr(source, "manifest", lambda *a, **k: None)
    with pytest.raises(Malformed, match="not modified"):
        fetcher.download_bytes(url("timestamp.json"), 1000)


def test_a_source_without_validators_is_asked_in_full(
    fetcher: RegistryFetcher, source: TufSource, monkeypatch: Any
) -> None:
    plain = source.manifest
    seen = []

    def manifest(repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        seen.append(validator)
        found = plain(repository, reference, bytes_max=bytes_max)
        return found and found._replace(validator="")

    monkeypatch.setattr(source, "manifest", manifest)
    for _ in range(2):
        assert fetcher.download_bytes(url("timestamp.json"), 16_384) == source.repository.files["timestamp.json"]
    assert seen == ["", ""]


@pytest.mark.parametrize("error", [Refused("no"), Unreachable("away", retry_after_s=5)])
def test_what_the_source_says_comes_through(box: Box, error: Exception, monkeypatch: Any) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(box.source, "manifest", fail)
    with pytest.raises(type(error)) as caught:
        box.trust.refresh()
    assert caught.value is error


def test_a_line_with_a_thousand_releases(box: Box, repo: TufRepository) -> None:
    """Its file is too large to be inlined: three requests for a poll that brings it, two for one that doesn't."""
    repo.release("press", "1.0.0")
    targets = repo.signed("models.press").targets
    for number in range(1000):
        targets[target_path("press", f"2.0.{number}")] = targets[target_path("press", "1.0.0")]
    repo.publish("models.press")
    assert len(box.versions()) == 1002
    assert [what.partition("@")[0] for what in box.source.asked if "@" in what] == ["acme/tuf"]
    box.source.asked.clear()
    assert len(box.versions()) == 1002
    assert len(box.source.asked) == 2
