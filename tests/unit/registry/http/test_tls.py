"""Own authorities, client certificates, proxies."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import issue
from http_rig import PLACE, Rig, read_all
from registry_simulator import Fault, RegistrySimulator

from appliance.errors import FailedPrecondition, InvalidArgument
from appliance.registry.sources.failures import Malformed, Refused

DATA = b"a blob"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ca", "other"):
        issue(name).write(tmp_path, name)
    authority = issue("authority")
    authority.write(tmp_path, "ca")
    issue("server", authority).write(tmp_path, "server")
    issue("client", authority).write(tmp_path, "client")
    return tmp_path


@pytest.fixture
def secure(folder: Path) -> Iterator[RegistrySimulator]:
    registry = RegistrySimulator()
    registry.use_tls(folder / "server.pem", folder / "server.key")
    with registry.running():
        yield registry


@pytest.fixture
def mutual(folder: Path) -> Iterator[RegistrySimulator]:
    registry = RegistrySimulator()
    registry.use_tls(folder / "server.pem", folder / "server.key", folder / "ca.pem")
    with registry.running():
        yield registry


def test_an_authority_of_ones_own(secure: RegistrySimulator, folder: Path) -> None:
    digest = secure.add_blob(PLACE, DATA)
    assert read_all(Rig(secure, ca=str(folder / "ca.pem")).source, digest) == (0, DATA)
    for ca in ("", str(folder / "other.pem")):
        rig = Rig(secure, ca=ca)
        with pytest.raises(Refused, match="not trusted"):
            read_all(rig.source, digest)
        assert rig.pauses == []
    other_name = Rig(secure, url=secure.url.replace("127.0.0.1", "localhost"), ca=str(folder / "ca.pem"))
    with pytest.raises(Refused, match="not trusted"):
        read_all(other_name.source, digest)


def test_a_client_certificate(mutual: RegistrySimulator, folder: Path) -> None:
    digest = mutual.add_blob(PLACE, DATA)
    files = {"certificate": str(folder / "client.pem"), "key": str(folder / "client.key")}
    rig = Rig(mutual, ca=str(folder / "ca.pem"), **files)
    assert read_all(rig.source, digest) == (0, DATA)
    with pytest.raises(Refused, match="client certificate"):
        read_all(Rig(mutual, ca=str(folder / "ca.pem")).source, digest)


def test_it_is_shown_to_nobody_else(mutual: RegistrySimulator, secure: RegistrySimulator, folder: Path) -> None:
    """A redirect to another server that wants one is refused over there."""
    files = {"certificate": str(folder / "client.pem"), "key": str(folder / "client.key")}
    digest = mutual.add_blob(PLACE, DATA)
    secure.always["blob"] = Fault(status=307, headers=(("Location", f"{mutual.url}/v2/{PLACE}/blobs/{digest}"),))
    with pytest.raises(Refused, match="client certificate"):
        read_all(Rig(secure, ca=str(folder / "ca.pem"), **files).source, digest)


def test_never_from_https_to_http(secure: RegistrySimulator, registry: RegistrySimulator, folder: Path) -> None:
    digest = registry.add_blob(PLACE, DATA)
    rig = Rig(secure, ca=str(folder / "ca.pem"))
    to = (("Location", f"{registry.url}/v2/{PLACE}/blobs/{digest}"),)
    secure.always["blob"] = Fault(status=307, headers=to)
    secure.always["upload"] = Fault(status=202, headers=to)
    secure.always["tags"] = Fault(status=401, headers=(("WWW-Authenticate", f'Bearer realm="{registry.url}/token"'),))
    with pytest.raises(Malformed, match="from https to"):
        read_all(rig.source, digest)
    with pytest.raises(Malformed, match="from https to"):
        rig.target.put_blob(PLACE, digest, len(DATA), lambda: [DATA])
    with pytest.raises(Refused, match="not encrypted"):
        rig.source.tags(PLACE)
    assert registry.seen == []


def test_files_that_cannot_be_used(secure: RegistrySimulator, folder: Path) -> None:
    for wrong in ({"ca": "/none"}, {"ca": str(folder / "ca.key")}, {"certificate": str(folder / "client.pem")}):
        with pytest.raises(FailedPrecondition, match="TLS files"):
            Rig(secure, **wrong)


def test_a_proxy_only_when_it_is_set(registry: RegistrySimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator answers whole URLs as a proxy would."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    digest = registry.add_blob(PLACE, DATA)
    assert read_all(Rig(registry).source, digest) == (0, DATA)
    proxy = registry.url.replace("://", "://us%40er:pass@")
    assert read_all(Rig(registry, url="http://models.example:5000", proxy=proxy).source, digest) == (0, DATA)
    seen = registry.seen[-1]
    assert seen.path == f"http://models.example:5000/v2/{PLACE}/blobs/{digest}"
    assert seen.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"us@er:pass").decode()
    assert "proxy-authorization" not in registry.seen[0].headers


@pytest.mark.parametrize("proxy", ["socks5://x", "x:3128", "http://", "http://x:y"])
def test_what_is_no_proxy(registry: RegistrySimulator, proxy: str) -> None:
    with pytest.raises(InvalidArgument, match="proxy"):
        Rig(registry, proxy=proxy)
