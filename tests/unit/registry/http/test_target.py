import random
from collections.abc import Iterable, Iterator

import pytest
from http_rig import PLACE, Rig, read_all
from registry_simulator import Fault, RegistrySimulator

from appliance import limits
from appliance.registry.sources.failures import Malformed, Refused, Unreachable
from appliance.store.manifest import MANIFEST_TYPE, digest_of

DATA = random.Random(9).randbytes(1_000_000)
DIGEST = digest_of(DATA)


def chunks() -> Iterable[bytes]:
    return [DATA[:400_000], DATA[400_000:400_001], b"", DATA[400_001:]]


def test_a_blob_and_a_manifest_up_and_down(registry: RegistrySimulator) -> None:
    rig = Rig(registry)
    assert not rig.target.has_blob(PLACE, DIGEST)
    rig.target.put_blob(PLACE, DIGEST, len(DATA), chunks)
    assert rig.target.has_blob(PLACE, DIGEST)
    assert read_all(rig.source, DIGEST) == (0, DATA)
    sent = registry.asked("upload", "PUT")[0]
    assert sent.path == f"/v2/{PLACE}/blobs/uploads/7?_state=x&digest={DIGEST}"
    assert sent.headers["content-length"] == str(len(DATA))
    assert "transfer-encoding" not in sent.headers
    manifest = b'{"schemaVersion":2}'
    for reference in ("1.0.0", digest_of(manifest)):
        rig.target.put_manifest(PLACE, reference, MANIFEST_TYPE, manifest)
        found = rig.source.manifest(PLACE, reference, bytes_max=100)
        assert found is not None
        assert (found.data, found.media_type) == (manifest, MANIFEST_TYPE)


def test_an_empty_blob(registry: RegistrySimulator) -> None:
    rig = Rig(registry)
    rig.target.put_blob(PLACE, digest_of(b""), 0, list)
    assert rig.target.has_blob(PLACE, digest_of(b""))


@pytest.mark.parametrize(
    ("faults", "sent"),
    [
        ([Fault(), Fault(before=True)], 2),
        ([Fault(status=503)], 1),
        ([Fault(), Fault(status=502)], 2),
        ([Fault(), Fault(deaf=True)], 1),
    ],
    ids=["cut", "busy", "busy after it", "done, but nobody said so"],
)
def test_an_upload_that_breaks_begins_anew(registry: RegistrySimulator, faults: list[Fault], sent: int) -> None:
    registry.faults["upload"] = list(faults)
    rig = Rig(registry)
    rig.target.put_blob(PLACE, DIGEST, len(DATA), chunks)
    assert registry.blobs[PLACE, DIGEST] == DATA
    assert len(registry.asked("upload", "PUT")) == sent
    assert rig.pauses == [1.0]


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault(status=400, body=b'{"errors":[{"code":"DIGEST_INVALID","message":"<b>"}]}'), Refused),
        (Fault(status=403), Refused),
        (Fault(status=413), Refused),
        (Fault(status=307, headers=(("Location", "/x"),)), Malformed),
        (Fault(status=503), Unreachable),
        (Fault(status=202), Malformed),
    ],
)
def test_a_registry_that_takes_nothing(registry: RegistrySimulator, fault: Fault, failure: type[Exception]) -> None:
    registry.always["upload"] = registry.always["manifest"] = fault
    rig = Rig(registry)
    with pytest.raises(failure):
        rig.target.put_blob(PLACE, DIGEST, len(DATA), chunks)
    with pytest.raises(failure):
        rig.target.put_manifest(PLACE, "1", MANIFEST_TYPE, b"{}")


@pytest.mark.parametrize("location", ["", "ftp://x/", "https://u:p@x/", "http://x\\y"])
def test_uploads_that_lead_nowhere(registry: RegistrySimulator, location: str) -> None:
    registry.always["upload"] = Fault(status=202, headers=(("Location", location),))
    with pytest.raises(Malformed):
        Rig(registry).target.put_blob(PLACE, DIGEST, len(DATA), chunks)


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_other_bytes_than_announced(registry: RegistrySimulator, size: int) -> None:
    with pytest.raises(Malformed, match=str(size)):
        Rig(registry).target.put_blob(PLACE, DIGEST, size, chunks)
    assert registry.blobs == {}


@pytest.mark.parametrize("failure", [OSError(5, "a disk"), ValueError("a bug"), KeyError("a bug")])
def test_our_own_bytes_that_cannot_be_read(registry: RegistrySimulator, failure: Exception) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA[:1000]
        raise failure

    rig = Rig(registry)
    with pytest.raises(type(failure)) as raised:
        rig.target.put_blob(PLACE, DIGEST, len(DATA), broken)
    assert raised.value is failure
    assert rig.pauses == []


def test_a_manifest_under_the_digest_of_another(registry: RegistrySimulator) -> None:
    with pytest.raises(Malformed):
        Rig(registry).target.put_manifest(PLACE, DIGEST, MANIFEST_TYPE, b"{}")
    assert registry.seen == []


def test_a_registry_may_hash_a_large_blob_before_it_answers(
    registry: RegistrySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 MB at 100 kB/s: 10 s beside the stall time-out."""
    monkeypatch.setattr(limits, "http_commit_bytes_per_s", 100_000)
    registry.upload_pause_s = 0.2
    Rig(registry, stall_s=0.05).target.put_blob(PLACE, DIGEST, len(DATA), chunks)
    assert len(registry.asked("upload", "PUT")) == 1
