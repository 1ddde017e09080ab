"""What doctor says of certificates and keys: when they end, whom they are for, and of a clock that cannot be right."""

import datetime
import os

import pytest
from setup_world import DAY, NOW, Organisation

from appliance.cli.checks_certificates import check_certificates, check_clock
from appliance.config import Config, RegistryConfig, ServerConfig, TlsConfig
from appliance.config_file import Loaded
from appliance.setup import certificates


@pytest.fixture
def org(tmp_path):
    made = Organisation(tmp_path, "box", "10.1.2.3")
    for path in made.paths.values():
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    return made


def loaded(org, address="0.0.0.0:8001", **registry):
    names = {"certificate": "server.pem", "key": "server.key", "client_ca": "clients.pem"}
    tls = TlsConfig(**{field: str(org.paths[name]) for field, name in names.items()})
    config = Config(server=ServerConfig(address=address, tls=tls), registry=RegistryConfig(**registry))
    return Loaded(config, (org.paths["root.pem"].parent / "appliance.toml",), {})


def found(org, now=NOW, **more):
    return [(check.level, check.found) for check in check_certificates(loaded(org, **more), now)]


def test_good(org):
    assert found(org) == [
        ("ok", "server's certificate is good until 2029-06-03"),
        ("ok", "clients' authority is good until 2037-02-26"),
    ]


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (825 - 30, "ok", "good until 2029-06-03"),
        (825 - 29, "warn", "good until 2029-06-03: 29 days ("),
        (825, "bad", "expired on 2029-06-03 (by this machine's clock it is 2029-06-03)"),
    ],
)
def test_end(org, days, level, words):
    check = next(iter(check_certificates(loaded(org), NOW + days * DAY)))
    assert (check.level, words in check.found) == (level, True)
    assert level == "ok" or "`appliance setup renew`" in check.advice


def test_a_clock_that_is_behind(org):
    clock, server, *_ = check_certificates(loaded(org), NOW - 2 * DAY)
    assert (clock.name, clock.level) == ("clock", "bad")
    assert "it says 2027-02-27, but" in clock.found
    assert "was written on 2027-03-01" in clock.found
    assert "timedatectl" in clock.advice
    assert (server.level, "is not valid before 2027-02-28" in server.found) == ("bad", True)
    assert "set the clock (timedatectl) if it is wrong" in server.advice
    (never,) = check_clock([], datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc))
    assert never.found == "it says 1970-01-01, which cannot be"
    assert list(check_clock([], NOW)) == []


def test_one_of_the_authorities_is_enough(org):
    late = NOW + 3651 * DAY
    fresh = certificates.make_authority("new", late)
    org.put("clients.pem", org.clients, fresh)
    os.utime(org.paths["clients.pem"], (NOW.timestamp(), NOW.timestamp()))
    level, words = found(org, late)[1]
    assert (level, words.endswith("holds some that are not valid: CN=clients of the organisation")) == ("warn", True)
    org.put("clients.pem", org.clients)
    os.utime(org.paths["clients.pem"], (NOW.timestamp(), NOW.timestamp()))
    assert found(org, late)[1][0] == "bad"


def test_one_of_a_chain_is_one_too_many(org):
    short = certificates.issue_client(org.root, "short", NOW)
    org.put("server.pem", org.server, short)
    os.utime(org.paths["server.pem"], (NOW.timestamp(), NOW.timestamp()))
    level, words = found(org, NOW + 400 * DAY)[0]
    assert (level, "expired on 2028-04-01" in words) == ("bad", True)


@pytest.mark.parametrize(("address", "warned"), [("10.1.2.3:1", False), ("10.9.9.9:1", True), ("[::]:1", False)])
def test_address(org, address, warned):
    levels = [level for level, words in found(org, address=address) if "server.address" in words]
    assert levels == (["warn"] if warned else [])


def test_registry(org, tmp_path):
    good = {"certificate": str(org.paths["server.pem"]), "key": str(org.paths["server.key"])}
    assert [level for level, _ in found(org, ca=str(org.paths["root.pem"]), **good)] == ["ok"] * 4
    org.put_key("server.key", org.root)
    (mismatch,) = (words for level, words in found(org, **good) if level == "bad")
    assert mismatch.endswith(f"does not belong to {org.paths['server.pem']}")
    junk = tmp_path / "junk"
    junk.write_text("junk")
    assert ("bad", f"others may read or change {junk}") in found(org, credentials=str(junk))
    assert ("bad", f"{tmp_path}/none: No such file or directory") in found(org, credentials=f"{tmp_path}/none")
    junk.chmod(0o600)
    assert any(
        "no private key in PEM" in words for _, words in found(org, certificate=good["certificate"], key=str(junk))
    )
    # What systemd hands to the service nobody else sees.
    hidden = {"certificate": "credential:a", "key": "credential:b", "credentials": "credential:c"}
    assert [level for level, _ in found(org, **hidden)] == ["ok", "ok"]


def test_the_key_of_the_authority(org):
    folder = org.paths["root.pem"].parent / "ca"
    folder.mkdir()
    (folder / "ca.key").touch(0o600)
    assert [level for level, _ in found(org)] == ["ok", "ok"]
    (folder / "ca.key").chmod(0o640)
    assert found(org)[-1] == ("bad", f"others may read {folder}/ca.key, and sign clients' certificates with it")


def test_what_other_checks_tell(org):
    org.paths["server.pem"].write_text("junk")
    org.paths["clients.pem"].unlink()
    os.utime(org.paths["server.pem"], (NOW.timestamp(), NOW.timestamp()))
    assert found(org) == []
    assert list(check_certificates(Loaded(Config(), (), {}), NOW)) == []
