"""The organisation's files are taken when they fit together; what is wrong with them is said with what to do."""

import pytest
from cryptography import x509
from setup_world import DAY, NOW, Organisation

from appliance.errors import InvalidArgument
from appliance.setup import certificates, organisation, reading
from appliance.setup.answers import Files


@pytest.fixture
def org(tmp_path):
    return Organisation(tmp_path, "box", "*.plant.example", "10.1.2.3")


def take(org, *names, said=True, now=NOW, **more):
    paths = {"certificate": "server.pem", "key": "server.key", "client_ca": "clients.pem", "server_ca": "root.pem"}
    files = {field: org.paths[name] for field, name in paths.items()} | more
    return organisation.take(Files(**files), names or ("box",), now, said=said)


def test_taken_as_it_is(org):
    taken = take(org, "box", "a.plant.example", "A.Plant.Example.", "10.1.2.3")
    assert taken.certificate == org.paths["server.pem"].read_bytes()
    assert taken.key == org.paths["server.key"].read_bytes()
    assert taken.client_ca == org.paths["clients.pem"].read_bytes()
    assert take(org, client_ca=None, server_ca=None)[2:] == (None, None)


def test_a_chain(org):
    middle = certificates.make_authority("middle", NOW)
    cross = (
        x509.CertificateBuilder()
        .subject_name(middle.certificate.subject)
        .issuer_name(org.root.certificate.subject)
        .public_key(middle.key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(org.root.key, certificates.hashes.SHA256())
    )
    below = middle._replace(certificate=cross)
    leaf = certificates.issue_server(below, ("box",), NOW)
    org.put_key("server.key", leaf)
    org.put("server.pem", leaf, below)
    assert take(org)
    org.put("server.pem", leaf, below, org.root)
    assert take(org)
    org.put("server.pem", leaf, org.root, below)
    with pytest.raises(
        InvalidArgument, match=r"out of order: number 1 \(CN=box\) is not signed by number 2 .*own first"
    ):
        take(org)
    org.put("server.pem", leaf)
    with pytest.raises(InvalidArgument, match="is not signed by CN=organisation, but by CN=middle"):
        take(org)


def test_a_short_name_of_the_machine_is_a_guess(org):
    only_long = Organisation(org.paths["root.pem"].parent / "long", "press.plant.example")
    assert take(only_long, "press", said=False)
    with pytest.raises(InvalidArgument, match=r"is for press.plant.example, not for press: clients would refuse it$"):
        take(only_long, "press", said=True)
    with pytest.raises(InvalidArgument, match="if clients use another name, say it with --name"):
        take(only_long, "other", said=False)


@pytest.mark.parametrize("name", ["other", "plant.example", "a.b.plant.example", "10.1.2.4", "boxes", "xplant.example"])
def test_names_that_it_is_not_for(org, name):
    assert not reading.covers(("box", "*.plant.example", "10.1.2.3"), name)
    with pytest.raises(InvalidArgument, match="not for"):
        take(org, name)


def test_wrong_files(org):
    def refused(words, **more):
        with pytest.raises(InvalidArgument, match=words) as caught:
            take(org, **more)
        assert caught.value.reason == "SETUP"

    folder = org.paths["root.pem"].parent
    refused("cannot read .*none.pem: No such file", certificate=folder / "none.pem")
    refused("cannot read .*: Is a directory", certificate=folder)
    refused("holds no certificate in PEM", certificate=org.paths["server.key"])
    refused("holds no private key in PEM, or one of an unknown kind", key=org.paths["server.pem"])
    (folder / "empty").touch(0o600)
    refused("holds no certificate in PEM", client_ca=folder / "empty")
    (folder / "der").write_bytes(org.server.certificate.public_bytes(certificates.serialization.Encoding.DER))
    refused("holds no certificate in PEM", certificate=folder / "der")
    (folder / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    refused("is larger than any file of certificates", certificate=folder / "large")
    refused("CN=box, which is no authority: --client-ca", client_ca=org.paths["server.pem"])
    refused(
        "is not signed by CN=clients of the organisation, but by CN=organisation", server_ca=org.paths["clients.pem"]
    )
    org.paths["server.key"].chmod(0o644)
    refused(r"others than its owner and group may read or change .*chmod o-rwx,g-w")
    org.put_key("server.key", org.root)
    refused("does not belong to .*: give the key with which it was requested")
    org.put_key("server.key", org.server, passphrase=b"secret")
    refused("has a passphrase, which nobody can type .*openssl pkey -in")


def test_not_a_servers(org):
    client = certificates.issue_client(org.root, "box", NOW)
    org.put("server.pem", client)
    org.put_key("server.key", client)
    with pytest.raises(InvalidArgument, match="is no server's certificate: its extended key usage lacks serverAuth"):
        take(org)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (
            826,
            r"server.pem expired on 2029-06-03 \(by this machine's clock it is 2029-06-04\): get a new one, or set the",
        ),
        (-2, r"server.pem is not valid before 2027-02-28 \(by this machine's clock it is 2027-02-27\)"),
    ],
)
def test_not_valid_now(org, days, words):
    with pytest.raises(InvalidArgument, match=words):
        take(org, now=NOW + days * DAY)


def test_clients_authority_that_ended(org):
    old = certificates.make_authority("old", NOW)
    late = NOW + 3651 * DAY
    fresh = Organisation(org.paths["root.pem"].parent / "late", "box", now=late)
    org.put("clients.pem", old)
    with pytest.raises(InvalidArgument, match=r"clients.pem expired on 2037-02-26"):
        take(fresh, now=late, client_ca=org.paths["clients.pem"])
