"""Lines that break, servers that are busy or slow, redirects."""

import contextlib
import random
import threading
from collections.abc import Iterator

import pytest
from http_rig import PLACE, Rig, read_all
from registry_simulator import Fault, RegistrySimulator

from appliance import limits
from appliance.registry.sources.failures import Absent, Malformed, Unreachable

DATA = random.Random(8).randbytes(300_000)


@pytest.fixture
def elsewhere() -> Iterator[RegistrySimulator]:
    with RegistrySimulator().running() as running:
        yield running


@pytest.mark.parametrize(
    ("faults", "pauses"),
    [
        ([Fault(before=True)], [1.0]),
        ([Fault(status=500), Fault(status=502), Fault(status=503)], [1.0, 2.0, 4.0]),
        ([Fault(status=429, headers=(("Retry-After", "9"),))], [10.0]),
        ([Fault(status=503, headers=(("Retry-After", "Tue, 14 Nov 2023 22:13:30 GMT"),))], [11.0]),
        ([Fault(status=503, headers=(("Retry-After", "soon"),))], [1.0]),
    ],
)
def test_what_passes_is_tried_again(registry: RegistrySimulator, faults: list[Fault], pauses: list[float]) -> None:
    digest = registry.add_blob(PLACE, DATA)
    registry.faults["blob"] = list(faults)
    rig = Rig(registry)
    assert read_all(rig.source, digest) == (0, DATA)
    assert rig.pauses == pauses


def test_tries_end(registry: RegistrySimulator) -> None:
    registry.always["blob"] = Fault(status=503)
    rig = Rig(registry)
    with pytest.raises(Unreachable, match="503"):
        read_all(rig.source, registry.add_blob(PLACE, DATA))
    assert len(registry.asked("blob")) == limits.http_tries_max
    assert rig.pauses == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize(("said", "known"), [("3600", 3600.0), ("99999999", 86400.0)])
def test_a_long_retry_after_is_handed_on(registry: RegistrySimulator, said: str, known: float) -> None:
    registry.always["blob"] = Fault(status=429, headers=(("Retry-After", said),))
    rig = Rig(registry)
    with pytest.raises(Unreachable) as raised:
        read_all(rig.source, registry.add_blob(PLACE, DATA))
    assert (raised.value.retry_after_s, rig.pauses, len(registry.asked("blob"))) == (known, [], 1)


def test_nobody_listens(registry: RegistrySimulator) -> None:
    with RegistrySimulator().running() as gone:
        pass
    rig = Rig(gone)
    with pytest.raises(Unreachable):
        rig.source.tags(PLACE)
    assert len(rig.pauses) == limits.http_tries_max - 1
    assert registry.seen == []


def test_a_stream_that_breaks_goes_on_where_it_was(registry: RegistrySimulator) -> None:
    digest = registry.add_blob(PLACE, DATA)
    registry.faults["blob"] = [Fault(cut=100_000)]
    rig = Rig(registry)
    got = b""
    with rig.source.blob(PLACE, digest) as blob, contextlib.suppress(Unreachable):
        while piece := blob.read(1 << 20):
            got += piece
    assert got == DATA[:100_000]
    assert read_all(rig.source, digest, offset=len(got), validator=blob.validator) == (100_000, DATA[100_000:])
    assert registry.asked("blob")[-1].headers["if-range"] == f'"{digest}"'
    assert registry.sent == len(DATA)


def test_streams_that_break_at_once_are_spaced(registry: RegistrySimulator) -> None:
    digest = registry.add_blob(PLACE, DATA)
    registry.faults["blob"] = [Fault(cut=0)] * 3
    rig = Rig(registry)
    for _ in range(3):
        with pytest.raises(Unreachable):
            read_all(rig.source, digest)
    assert read_all(rig.source, digest) == (0, DATA)
    assert rig.pauses == [1.0, 2.0, 4.0]
    read_all(rig.source, digest)
    assert rig.pauses == [1.0, 2.0, 4.0]


def test_a_stall(registry: RegistrySimulator) -> None:
    digest = registry.add_blob(PLACE, DATA)
    over = threading.Event()
    registry.faults["blob"] = [Fault(cut=10, stall=over)]
    with pytest.raises(Unreachable):
        read_all(Rig(registry, stall_s=0.05).source, digest)
    over.set()


def test_a_trickle_is_a_stall_too(registry: RegistrySimulator) -> None:
    digest = registry.add_blob(PLACE, DATA)
    rig = Rig(registry)
    with rig.source.blob(PLACE, digest) as blob:
        read1 = blob._response.read1

        def slow(size: int, **known: bool) -> bytes:
            rig.clock.advance(4.0)
            return read1(min(size, 1), **known)

        blob._response.read1 = slow  # type: ignore[method-assign,assignment]
        assert len(blob.read(100)) == 1
        with pytest.raises(Unreachable, match="2 bytes in 8 s"):
            blob.read(100)


def test_a_reader_that_takes_its_time_is_no_stall(registry: RegistrySimulator) -> None:
    rig = Rig(registry)
    with rig.source.blob(PLACE, registry.add_blob(PLACE, DATA)) as blob:
        for _ in range(3):
            assert len(blob.read(1)) == 1
            rig.clock.advance(1000.0)


def test_a_blob_may_lie_elsewhere(registry: RegistrySimulator, elsewhere: RegistrySimulator) -> None:
    digest = elsewhere.add_blob(PLACE, DATA)
    registry.always["blob"] = Fault(
        status=307, headers=(("Location", f"{elsewhere.url}/v2/{PLACE}/blobs/{digest}?signed=1"),)
    )
    source = Rig(registry).source
    assert read_all(source, digest, offset=5) == (5, DATA[5:])
    assert elsewhere.seen[0].headers["range"] == "bytes=5-"
    registry.always["blob"] = Fault(status=302, headers=(("Location", f"{elsewhere.url}/x"),))
    with pytest.raises(Absent):
        read_all(source, digest)


@pytest.mark.parametrize("location", ["", "{path}", "ftp://x/", "https://u:p@127.0.0.1/", "http://127.0.0.1:1\\@x/"])
def test_redirects_that_lead_nowhere(registry: RegistrySimulator, location: str) -> None:
    digest = registry.add_blob(PLACE, DATA)
    path = f"/v2/{PLACE}/blobs/{digest}"
    registry.always["blob"] = Fault(status=302, headers=(("Location", location.format(path=path)),))
    with pytest.raises(Malformed):
        read_all(Rig(registry).source, digest)
    assert len(registry.seen) <= limits.http_redirects_max + 1


def test_one_connection_is_enough(registry: RegistrySimulator) -> None:
    """Errors and redirects leave it usable."""
    digest = registry.add_blob(PLACE, b"x")
    registry.faults["blob"] = [Fault(status=503, body=b"busy"), Fault(status=302, headers=(("Location", "/x"),))]
    source = Rig(registry).source
    with pytest.raises(Absent):
        read_all(source, digest)
    for _ in range(3):
        read_all(source, digest)
    assert registry.connections == 1
