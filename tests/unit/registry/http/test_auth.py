"""Logins, and where they must never go."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_rig import PLACE, Rig, credentials_file, read_all
from registry_simulator import Fault, RegistrySimulator

from appliance.errors import FailedPrecondition
from appliance.registry.sources.failures import Malformed, Refused, Unreachable

LOGIN = "box:sesame"
AUTH = base64.b64encode(LOGIN.encode()).decode()
DATA = b"a blob"


@pytest.fixture
def elsewhere() -> Iterator[RegistrySimulator]:
    with RegistrySimulator().running() as running:
        yield running


def known_rig(registry: RegistrySimulator, folder: Path, *others: RegistrySimulator) -> Rig:
    """A client with a password for the registry and ``others``."""
    entries = [(each.netloc, AUTH) for each in (registry, *others)]
    return Rig(registry, credentials=credentials_file(folder, *entries))


def use_tokens(registry: RegistrySimulator, realm_of: RegistrySimulator) -> None:
    registry.login, registry.realm = LOGIN, f"{realm_of.url}/token"
    realm_of.login, realm_of.tokens = LOGIN, registry.tokens


def test_basic(registry: RegistrySimulator, tmp_path: Path) -> None:
    registry.login = LOGIN
    digest = registry.add_blob(PLACE, DATA)
    rig = known_rig(registry, tmp_path)
    for _ in range(2):
        assert read_all(rig.source, digest) == (0, DATA)
    # Once told that it is wanted, it is sent at once.
    assert ["authorization" in seen.headers for seen in registry.seen] == [False, True, True]
    assert rig.pauses == []


def test_basic_without_and_with_a_wrong_password(registry: RegistrySimulator, tmp_path: Path) -> None:
    registry.login = LOGIN
    digest = registry.add_blob(PLACE, DATA)
    with pytest.raises(Refused, match="wants a user"):
        read_all(Rig(registry).source, digest)
    wrong = base64.b64encode(b"box:wrong").decode()
    rig = Rig(registry, credentials=credentials_file(tmp_path, (registry.netloc, wrong)))
    with pytest.raises(Refused, match="does not take the user") as raised:
        read_all(rig.source, digest)
    assert "wrong" not in str(raised.value)
    # Mended while we run.
    credentials_file(tmp_path, (registry.netloc, AUTH))
    assert read_all(rig.source, digest) == (0, DATA)


def test_a_file_that_others_may_read(registry: RegistrySimulator, tmp_path: Path) -> None:
    registry.login = LOGIN
    rig = known_rig(registry, tmp_path)
    (tmp_path / "credentials.json").chmod(0o644)
    with pytest.raises(FailedPrecondition, match="chmod 600"):
        read_all(rig.source, registry.add_blob(PLACE, DATA))
    assert not any("authorization" in seen.headers for seen in registry.seen)


def test_a_token_until_it_expires(registry: RegistrySimulator, tmp_path: Path) -> None:
    use_tokens(registry, registry)
    digest = registry.add_blob(PLACE, DATA)
    rig = known_rig(registry, tmp_path)
    for _ in range(3):
        assert read_all(rig.source, digest) == (0, DATA)
    assert len(registry.asked("token")) == 1
    # The scope is ours, whatever the challenge asks for.
    assert registry.asked("token")[0].path == f"/token?service=simulator&scope=repository:{PLACE}:pull"
    rig.clock.advance(registry.token_s * 0.95)
    read_all(rig.source, digest)
    assert len(registry.asked("token")) == 2
    # Taken back before its time.
    registry.tokens.clear()
    read_all(rig.source, digest)
    assert len(registry.asked("token")) == 3
    rig.target.put_manifest(PLACE, "1", "application/json", b"{}")
    assert registry.asked("token")[-1].path.endswith(":pull,push")


def test_a_token_without_a_password(registry: RegistrySimulator, elsewhere: RegistrySimulator) -> None:
    use_tokens(registry, elsewhere)
    elsewhere.login = ""
    assert read_all(Rig(registry).source, registry.add_blob(PLACE, DATA)) == (0, DATA)
    assert "authorization" not in elsewhere.seen[0].headers


def test_a_realm_elsewhere_gets_a_password_only_when_it_has_one_of_its_own(
    registry: RegistrySimulator, elsewhere: RegistrySimulator, tmp_path: Path
) -> None:
    use_tokens(registry, elsewhere)
    digest = registry.add_blob(PLACE, DATA)
    with pytest.raises(Refused, match=f"add an entry for {elsewhere.netloc}"):
        read_all(known_rig(registry, tmp_path).source, digest)
    assert elsewhere.seen == []
    assert read_all(known_rig(registry, tmp_path, elsewhere).source, digest) == (0, DATA)
    assert not any("Basic" in seen.headers.get("authorization", "") for seen in registry.seen)


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_redirect_elsewhere_takes_nothing_along(
    registry: RegistrySimulator, elsewhere: RegistrySimulator, tmp_path: Path, scheme: str
) -> None:
    if scheme == "basic":
        registry.login = LOGIN
    else:
        use_tokens(registry, registry)
    digest = elsewhere.add_blob(PLACE, DATA)
    registry.add_blob(PLACE, DATA)
    rig = known_rig(registry, tmp_path, elsewhere)
    read_all(rig.source, digest)
    registry.always["blob"] = Fault(status=307, headers=(("Location", f"{elsewhere.url}/v2/{PLACE}/blobs/{digest}"),))
    assert read_all(rig.source, digest) == (0, DATA)
    # It asks for a login in vain.
    elsewhere.login = LOGIN
    with pytest.raises(Refused, match="401"):
        read_all(rig.source, digest)
    assert len(elsewhere.seen) == 2
    assert not any("authorization" in seen.headers for seen in elsewhere.seen)


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault(status=401), Refused),
        (Fault(status=403), Refused),
        (Fault(status=500), Unreachable),
        (Fault(status=302, headers=(("Location", "/elsewhere"),)), Malformed),
        (Fault(status=200, body=b"no"), Malformed),
        (Fault(status=200, body=b"{}"), Malformed),
        (Fault(status=200, body=b'{"token": "a\\r\\nX-Evil: 1"}'), Malformed),
        (Fault(status=200, body=b'{"token": "' + b"x" * 9000 + b'"}'), Malformed),
        (Fault(status=200, body=b'{"token": "wrong"}'), Refused),
        (Fault(endless=True), Malformed),
    ],
)
def test_realms_that_go_wrong(
    registry: RegistrySimulator, tmp_path: Path, fault: Fault, failure: type[Exception]
) -> None:
    use_tokens(registry, registry)
    registry.always["token"] = fault
    with pytest.raises(failure):
        read_all(known_rig(registry, tmp_path).source, registry.add_blob(PLACE, DATA))
    assert not any("x-evil" in seen.headers for seen in registry.seen)


@pytest.mark.parametrize(
    ("offered", "failure"),
    [
        ("", Refused),
        ("Negotiate", Refused),
        ('Bearer service="x"', Malformed),
        ('Bearer realm="file:///etc/passwd"', Malformed),
        ('Bearer realm="http://u:p@127.0.0.1/"', Malformed),
        ("Basic " + "x" * 9000, Malformed),
    ],
)
def test_challenges_that_go_wrong(
    registry: RegistrySimulator, tmp_path: Path, offered: str, failure: type[Exception]
) -> None:
    registry.always["blob"] = Fault(status=401, headers=(("WWW-Authenticate", offered),))
    with pytest.raises(failure):
        read_all(known_rig(registry, tmp_path).source, registry.add_blob(PLACE, DATA))
    assert len(registry.seen) == 1


def test_no_password_over_a_network_in_the_clear(tmp_path: Path) -> None:
    """The proxy stands for the network: it answers for a host that is not this machine."""
    with RegistrySimulator().running() as proxy:
        proxy.login = LOGIN
        credentials = credentials_file(tmp_path, ("models.example", AUTH))
        rig = Rig(proxy, url="http://models.example", proxy=proxy.url, credentials=credentials)
        with pytest.raises(Refused, match="not encrypted"):
            rig.source.tags(PLACE)
        assert proxy.seen[0].path.startswith("http://models.example/v2/")
        assert not any("authorization" in seen.headers for seen in proxy.seen)


def test_a_token_that_is_not_taken_is_not_asked_for_again_and_again(
    registry: RegistrySimulator, tmp_path: Path
) -> None:
    use_tokens(registry, registry)
    registry.always["token"] = Fault(status=200, body=b'{"token": "wrong"}')
    with pytest.raises(Refused, match="its own realm"):
        read_all(known_rig(registry, tmp_path).source, registry.add_blob(PLACE, DATA))
    assert len(registry.asked("token")) == 1
