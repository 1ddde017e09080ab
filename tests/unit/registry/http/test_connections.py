"""One source in several threads, and what is kept open between requests."""

import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from certificates import issue
from http_rig import PLACE, Rig, credentials_file, read_all
from registry_simulator import Fault, RegistrySimulator

from appliance import limits
from appliance.clock import FakeClock
from appliance.registry.http.mirrors import Mirrors
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Refused

PARTS = [random.Random(n).randbytes(50_000 + n) for n in range(24)]


@pytest.mark.parametrize("wrap", [lambda source: source, lambda source: Mirrors([source], FakeClock())])
def test_blobs_come_side_by_side_with_one_login(
    registry: RegistrySimulator, tmp_path: Path, wrap: Callable[[Source], Source], caplog: pytest.LogCaptureFixture
) -> None:
    registry.login, registry.realm = "box:secret", f"{registry.url}/token"
    digests = [registry.add_blob(PLACE, part) for part in PARTS]
    path = credentials_file(tmp_path, (registry.netloc, "Ym94OnNlY3JldA=="))
    source = wrap(Rig(registry, credentials=path).source)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(limits.http_connections_max) as pool:
        found = list(pool.map(lambda digest: read_all(source, digest), digests))
    assert found == [(0, part) for part in PARTS]
    assert len(registry.asked("token")) == 1
    # urllib3 says so when it throws connections away.
    assert caplog.records == []


def test_a_poll_is_one_request_after_the_first(registry: RegistrySimulator) -> None:
    registry.add_manifest(PLACE, "1.0.0", b"{}")
    source = Rig(registry).source
    first = source.manifest(PLACE, "1.0.0", bytes_max=100)
    assert first is not None
    for _ in range(5):
        assert source.manifest(PLACE, "1.0.0", bytes_max=100, validator=first.validator) is None
    assert len(registry.seen) == 6


def test_what_is_left_of_a_blob_is_not_read(registry: RegistrySimulator) -> None:
    """Nor does it come before the answer to the next request."""
    digest = registry.add_blob(PLACE, PARTS[0] * 100)
    source = Rig(registry).source
    for _ in range(3):
        with source.blob(PLACE, digest) as blob:
            assert blob.read(10) == PARTS[0][:10]
    registry.always["blob"] = Fault(endless=True, body=b"x" * 1000)
    with source.blob(PLACE, digest) as blob:
        assert blob.read(10) == b"x" * 10


def test_a_server_that_wants_a_certificate_is_always_understood(tmp_path: Path) -> None:
    """It closes the connection while our request is on its way: a race, in which its alert must not get lost."""
    authority = issue("an authority")
    authority.write(tmp_path, "ca")
    issue("", authority).write(tmp_path, "server")
    simulator = RegistrySimulator()
    simulator.use_tls(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    with simulator.running() as registry:
        for _ in range(50):
            rig = Rig(registry, ca=str(tmp_path / "ca.pem"))
            with pytest.raises(Refused, match="client certificate"):
                rig.source.tags(PLACE)
            assert rig.pauses == []
