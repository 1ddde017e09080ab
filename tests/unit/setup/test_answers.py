"""From flags, and what held before, to answers; and every way in which they can be wrong."""

from pathlib import Path

import pytest
from setup_world import answers

from appliance.errors import InvalidArgument
from appliance.setup.answers import Before, Files, Given, complete

OPEN = "0.0.0.0:8001"


@pytest.mark.parametrize(
    ("given", "before", "tls"),
    [
        (Given(address=OPEN), {}, "mutual"),
        (Given(address="[::]:8001"), {}, "mutual"),
        (Given(address="127.0.0.1:8001"), {}, "off"),
        (Given(address="localhost:8001"), {}, "off"),
        (Given(address="127.0.0.1:8001", tls="mutual"), {}, "mutual"),
        (Given(address=OPEN), {"server.insecure": True}, "off"),
        (Given(address=OPEN), {"server.tls.certificate": "x"}, "server"),
        (Given(address="127.0.0.1:1"), {"server.tls.certificate": "x", "server.tls.client_ca": "y"}, "mutual"),
        (Given(address=OPEN, tls="mutual"), {"server.insecure": True}, "mutual"),
    ],
)
def test_tls_is_mutual_where_others_connect(given, before, tls):
    assert complete(given, Before(before), "box", with_unit=False).tls == tls


def test_what_held_before_holds():
    before = Before({"server.address": "10.1.2.3:8001"}, ("10.1.0.0/16",), ("old.example",))
    found = complete(Given(allow=("10.2.0.0/16",)), before, "box", with_unit=True)
    assert str(found.address) == "10.1.2.3:8001"
    assert found.allow == ("10.1.0.0/16", "10.2.0.0/16")
    assert found.names == ("old.example", "10.1.2.3", "box", "localhost", "127.0.0.1", "::1")
    assert complete(Given(allow=("none", "10.2.0.0/16")), before, "box", with_unit=True).allow == ("10.2.0.0/16",)
    renewed = complete(Given(names=("new.example",), renew=True), before, "box", with_unit=True)
    assert "old.example" not in renewed.names


def test_names():
    found = answers(names=("box.example", "10.1.2.3", "box.example"), address="192.0.2.7:1")
    assert found.names == ("box.example", "10.1.2.3", "192.0.2.7", "box", "localhost", "127.0.0.1", "::1")
    assert found.must_cover == ("box.example", "10.1.2.3", "box.example")
    assert answers().must_cover == ("box",)
    odd = complete(Given(address=OPEN), Before({}), "odd_name", with_unit=False)
    assert odd.names == ("localhost", "127.0.0.1", "::1")


def test_organisation_and_registry():
    found = answers(
        certificate=Path("a"), key=Path("b"), client_ca=Path("c"), registry="https://r.example", registry_prefix=""
    )
    assert found.organisation == Files(Path("a"), Path("b"), Path("c"))
    assert found.settings == {"registry.url": "https://r.example", "registry.prefix": ""}
    assert answers(registry_ca=Path("x.pem")).settings == {"registry.ca": str(Path.cwd() / "x.pem")}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Given(), "missing: --address"),
        (Given(address="8001"), 'expected "host:port"'),
        (Given(address=OPEN), "missing: --allow, the networks of your clients"),
        (Given(address=OPEN, allow=("none",)), "missing: --allow"),
        (Given(address=OPEN, allow=("any",), names=("a b",)), "neither a host's name"),
        (Given(address=OPEN, allow=("any",), names=("0.0.0.0",)), "neither a host's name"),
        (Given(address=OPEN, allow=("any",), names=("x" * 254,)), "254 characters"),
        (Given(address=OPEN, allow=("any",), names=tuple(f"n{i}" for i in range(65))), "at most 64"),
        (Given(address=OPEN, allow=("any",), clients=("../x",)), "letters, digits"),
        (Given(address=OPEN, allow=("any",), clients=("x" * 65,)), "has 65 characters, at most 64"),
        (Given(address=OPEN, allow=("any",), clients=("x",), tls="server"), "nobody asks for"),
        (Given(address=OPEN, allow=("any",), certificate=Path("x")), "missing: --key;"),
        (Given(address=OPEN, allow=("any",), key=Path("x")), "missing: --certificate;"),
        (Given(address=OPEN, allow=("any",), client_ca=Path("x")), "missing: --certificate and --key"),
        (Given(address=OPEN, allow=("any",), certificate=Path("x"), key=Path("y"), tls="off"), "of no use"),
        (Given(address=OPEN, allow=("any",), clients=tuple(f"n{i}" for i in range(65))), "65 times --client"),
    ],
)
def test_what_is_wrong(given, words):
    with pytest.raises(InvalidArgument, match=words) as caught:
        complete(given, Before({}), "box", with_unit=True)
    assert caught.value.reason == "SETUP"
