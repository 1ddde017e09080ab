import random

import pytest
from http_rig import PLACE, Rig, read_all
from registry_simulator import Fault, RegistrySimulator

from appliance import limits
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable

DATA = random.Random(7).randbytes(300_000)
MANIFEST = b'{"schemaVersion":2}'
BYTES_MAX = 1000


def test_a_manifest_by_tag_and_by_digest_and_when_it_is_the_same(registry: RegistrySimulator) -> None:
    digest = registry.add_manifest(PLACE, "1.0.0", MANIFEST)
    source = Rig(registry).source
    found = source.manifest(PLACE, "1.0.0", bytes_max=BYTES_MAX)
    assert found is not None
    assert (found.data, found.digest, found.validator) == (MANIFEST, digest, f'"{digest}"')
    assert source.manifest(PLACE, digest, bytes_max=BYTES_MAX) == found
    assert source.manifest(PLACE, "1.0.0", bytes_max=BYTES_MAX, validator=found.validator) is None
    registry.add_manifest(PLACE, "1.0.0", MANIFEST + b" ")
    assert source.manifest(PLACE, "1.0.0", bytes_max=BYTES_MAX, validator=found.validator) is not None
    assert registry.asked("manifest")[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault(status=404), Absent),
        (Fault(status=403), Refused),
        (Fault(status=418), Refused),
        (Fault(status=204), Malformed),
        (Fault(status=304), Malformed),
        (Fault(status=300), Malformed),
        (Fault(status=500), Unreachable),
        (Fault(before=True), Unreachable),
        (Fault(cut=3), Unreachable),
        (Fault(endless=True), Malformed),
        (Fault(status=404, endless=True), Absent),
        (Fault(status=302, endless=True, headers=(("Location", "https://b\\@c/"),)), Malformed),
        (Fault(corrupt=5), Malformed),
        (Fault(headers=(("Content-Encoding", "gzip"),)), Malformed),
        (Fault(headers=(("ETag", "x" * 70_000),)), Malformed),
        (Fault(headers=tuple((f"X-{i}", "x") for i in range(200))), Malformed),
        (Fault(raw=b"SSH-2.0-OpenSSH_9.2\r\n"), Malformed),
        (Fault(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), Unreachable),
        (Fault(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + b"x" * 2000), Malformed),
    ],
)  # fmt: skip
def test_manifests_that_go_wrong(registry: RegistrySimulator, fault: Fault, failure: type[Exception]) -> None:
    digest = registry.add_manifest(PLACE, "1.0.0", MANIFEST)
    registry.always["manifest"] = fault
    with pytest.raises(failure):
        Rig(registry).source.manifest(PLACE, digest, bytes_max=BYTES_MAX)


def test_a_manifest_is_too_large_by_one_byte(registry: RegistrySimulator) -> None:
    registry.add_manifest(PLACE, "1", b"x" * BYTES_MAX)
    registry.add_manifest(PLACE, "2", b"x" * (BYTES_MAX + 1))
    source = Rig(registry).source
    assert source.manifest(PLACE, "1", bytes_max=BYTES_MAX) is not None
    with pytest.raises(Malformed, match="1000"):
        source.manifest(PLACE, "2", bytes_max=BYTES_MAX)


@pytest.mark.parametrize("tag", ['W/"1"', '"a\x7f"', "plain", '"' + "x" * 2000 + '"'])
def test_etags_that_show_nothing_are_not_kept(registry: RegistrySimulator, tag: str) -> None:
    registry.add_manifest(PLACE, "1", MANIFEST)
    registry.always["manifest"] = Fault(headers=(("ETag", tag),))
    found = Rig(registry).source.manifest(PLACE, "1", bytes_max=BYTES_MAX)
    assert found is not None
    assert found.validator == ""


@pytest.mark.parametrize("kept", ['"a"\r\nX-Evil: 1', "a", '"' + "x" * 2000 + '"'])
def test_a_validator_that_was_kept_and_changed_is_not_sent(registry: RegistrySimulator, kept: str) -> None:
    digest = registry.add_blob(PLACE, DATA)
    registry.add_manifest(PLACE, "1", MANIFEST)
    source = Rig(registry).source
    assert source.manifest(PLACE, "1", bytes_max=BYTES_MAX, validator=kept) is not None
    assert read_all(source, digest, offset=5, validator=kept) == (5, DATA[5:])
    assert not any({"if-none-match", "if-range", "x-evil"} & set(seen.headers) for seen in registry.seen)


@pytest.mark.parametrize(
    ("asked", "fault", "offset", "data"),
    [
        ({}, Fault(), 0, DATA),
        ({"offset": 1000}, Fault(), 1000, DATA[1000:]),
        ({"offset": 1000, "length": 50}, Fault(), 1000, DATA[1000:1050]),
        ({"length": 50}, Fault(), 0, DATA[:50]),
        ({"offset": 299_999, "length": 50}, Fault(), 299_999, DATA[-1:]),
        ({"offset": 1000}, Fault(whole=True), 0, DATA),
        ({"offset": 1000, "validator": '"another"'}, Fault(), 0, DATA),
        ({"offset": 300_000}, Fault(), 0, DATA),
        ({"offset": 999_999}, Fault(), 0, DATA),
    ],
)
def test_blobs_from_somewhere_on(
    registry: RegistrySimulator, asked: dict[str, object], fault: Fault, offset: int, data: bytes
) -> None:
    digest = registry.add_blob(PLACE, DATA)
    registry.faults["blob"] = [fault]
    assert read_all(Rig(registry).source, digest, **asked) == (offset, data)


@pytest.mark.parametrize(
    "value",
    ["", "bytes 0-299999/300000", "bytes 1001-1100/300000", "bytes 1001-1050/300000", "bytes 999-1050/300000", "bytes 1000-1100/300000", "bytes 1000-999/300000", "bytes */300000",
     "items 1000-1099/300000", "bytes 1000-" + "9" * 5000],
)  # fmt: skip
def test_a_range_that_is_not_the_one_asked_for(registry: RegistrySimulator, value: str) -> None:
    digest = registry.add_blob(PLACE, DATA)
    registry.faults["blob"] = [Fault(headers=(("Content-Range", value),))]
    with pytest.raises(Malformed):
        read_all(Rig(registry).source, digest, offset=1000, length=100)


def test_a_range_that_nobody_asked_for(registry: RegistrySimulator) -> None:
    digest = registry.add_blob(PLACE, DATA)
    registry.faults["blob"] = [Fault(status=206, body=b"x", headers=(("Content-Range", "bytes 0-0/300000"),))]
    with pytest.raises(Malformed):
        read_all(Rig(registry).source, digest)


def test_more_and_less_than_the_range_says(registry: RegistrySimulator) -> None:
    digest = registry.add_blob(PLACE, DATA)
    for body, failure in ((b"x" * 200, Malformed), (b"x" * 50, Unreachable)):
        registry.faults["blob"] = [Fault(status=206, body=body, headers=(("Content-Range", "bytes 5-104/300000"),))]
        with pytest.raises(failure):
            read_all(Rig(registry).source, digest, offset=5, length=100)


def test_tags_page_by_page(registry: RegistrySimulator) -> None:
    source = Rig(registry).source
    assert source.tags(PLACE) == []
    for tag in ("1.0.0", "1.1.0", "2.0.0", "2.1.0", "3.0.0"):
        registry.add_manifest(PLACE, tag, tag.encode())
    registry.tags_page = 2
    assert source.tags(PLACE) == ["1.0.0", "1.1.0", "2.0.0", "2.1.0", "3.0.0"]
    assert len(registry.asked("tags")) == 4


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=200, body=b'{"tags": [1]}'),
        Fault(status=200, body=b"[" * 10_000),
        Fault(status=200, body=b'{"tags": ["a"]}', headers=(("Link", '<https://evil.example/v2/x/tags/list>; rel="next"'),)),
        Fault(status=200, body=b'{"tags": ["a"]}', headers=(("Link", '<?last=a>; rel="next"'),)),
        Fault(endless=True),
    ],
    ids=["no text", "deep", "elsewhere", "never ends", "endless"],
)  # fmt: skip
def test_lists_of_tags_that_go_wrong(registry: RegistrySimulator, fault: Fault) -> None:
    registry.always["tags"] = fault
    with pytest.raises(Malformed):
        Rig(registry).source.tags(PLACE)


def test_a_list_of_tags_may_be_null(registry: RegistrySimulator) -> None:
    registry.always["tags"] = Fault(status=200, body=b'{"name":"x","tags":null}')
    assert Rig(registry).source.tags(PLACE) == []


def test_a_document_that_comes_too_slowly(registry: RegistrySimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.add_manifest(PLACE, "1", MANIFEST)
    rig = Rig(registry)
    monkeypatch.setattr(limits, "http_read_bytes", 1)
    monotonic_ns = rig.clock.monotonic_ns

    def hurry() -> int:
        rig.clock.advance(limits.http_document_s_max / len(MANIFEST) * 2)
        return monotonic_ns()

    monkeypatch.setattr(rig.clock, "monotonic_ns", hurry)
    with pytest.raises(Unreachable, match="took more than"):
        rig.source.manifest(PLACE, "1", bytes_max=BYTES_MAX)
