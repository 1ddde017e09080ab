"""What was decided, done: modes, nothing lost when cut off, and what can't be written or read."""

import os
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from setup_world import DAY, NOW, answers, layout

from appliance.errors import InvalidArgument, PermissionDenied
from appliance.setup import certificates, files, plan, reading
from appliance.setup.plan import Present


@pytest.fixture
def place(tmp_path, monkeypatch):
    # As on a machine without the package, whether this one has it or not.
    monkeypatch.setattr(files, "_group", lambda: None)
    return layout(tmp_path)


def set_up(place, now=NOW, **more):
    said = answers(**more)
    decided = plan.decide(said, files.look(place), None, place, [(place.settings, "# x\n")], "box", now)
    return files.execute(decided, place, now)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_there_is_afterwards(place):
    old = os.umask(0o077)
    try:
        written = set_up(place, clients=("one",))
    finally:
        os.umask(old)
    folder = place.client("one")
    assert {path: mode(path) for path in written} == {
        place.authority: 0o644,
        place.authority_key: 0o600,
        place.certificate: 0o644,
        place.key: 0o600,  # 0640 for the service's group, where there is one
        folder / "one.key": 0o600,
        folder / "one.pem": 0o644,
        folder / "ca.pem": 0o644,
        place.settings: 0o644,
    }
    folders = (place.config_dir, place.authority.parent, place.key.parent, folder.parent)
    assert {mode(each) for each in folders} == {0o755}
    assert mode(folder) == 0o700
    present = files.look(place)
    assert (present.key_fits, present.clients, present.loose) == (True, {"one"}, {})
    assert set_up(place, clients=("one",)) == ()


def test_the_services_group_may_read_the_servers_key(place, monkeypatch):
    own = os.getegid()
    monkeypatch.setattr(files, "_group", lambda: own)
    set_up(place)
    assert (mode(place.key), place.key.stat().st_gid, mode(place.authority_key)) == (0o640, own, 0o600)
    place.key.chmod(0o644)
    assert set_up(place) == (place.key,)
    assert mode(place.key) == 0o640


def test_the_one_before_stays(place):
    set_up(place)
    first = place.certificate.read_bytes(), place.key.read_bytes()
    set_up(place, renew=True)
    backups = [path.with_name(f"{path.name}.bak") for path in (place.certificate, place.key)]
    assert tuple(path.read_bytes() for path in backups) == first
    assert mode(backups[1]) == 0o600
    assert (place.certificate.read_bytes(), place.key.read_bytes()) != first
    assert files.look(place).key_fits


@pytest.mark.parametrize("write", range(7))
def test_cut_off_after_each_write_the_next_run_ends_it(place, monkeypatch, write):
    """The keys that were made by then are the keys that stay."""
    done = []

    def fault(name):
        if name == "durable.write":
            if len(done) == write:
                raise InterruptedError
            done.append(name)

    with monkeypatch.context() as patch:
        patch.setattr("appliance.osutil.durable.fault_point", fault)
        with pytest.raises(PermissionDenied):
            set_up(place, clients=("one",))
    keys = {path: path.read_bytes() for path in (place.authority_key, place.key) if path.exists()}
    assert set_up(place, clients=("one",))
    assert set_up(place, clients=("one",)) == ()
    assert all(path.read_bytes() == data for path, data in keys.items())
    assert files.look(place).key_fits
    ca = reading.certificates(place.authority.read_bytes(), place.authority)[0]
    client = place.client("one") / "one.pem"
    assert reading.signed_by(reading.certificates(client.read_bytes(), client)[0], ca)


def test_a_key_of_another_kind_is_kept_beside(place):
    set_up(place)
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    place.key.write_bytes(pem)
    set_up(place)
    assert place.key.with_name("server.key.bak").read_bytes() == pem
    assert files.look(place).key_fits


def test_authority_without_its_key(place):
    set_up(place)
    key = place.authority_key.read_bytes()
    place.authority_key.unlink()
    with pytest.raises(InvalidArgument, match=r"ca.key is not there, .*ca.pem is: put the key back"):
        files.look(place)
    place.authority_key.write_bytes(place.key.read_bytes())
    with pytest.raises(InvalidArgument, match=r"is not the key of .*ca.pem: put the right one back"):
        files.look(place)
    place.authority_key.write_bytes(key)
    place.authority.write_text("junk")
    with pytest.raises(InvalidArgument, match="holds no certificate in PEM"):
        files.look(place)


def test_authority_without_its_certificate(place):
    set_up(place)
    data = place.authority.read_bytes()
    place.authority.unlink()
    with pytest.raises(InvalidArgument, match=r"ca.pem is not there, its key is: put it back \(each client's folder"):
        files.look(place)
    place.authority.write_bytes(data)
    assert set_up(place) == ()


def test_where_it_may_not_write(place):
    place.config_dir.parent.joinpath("etc").write_text("a file")
    with pytest.raises(PermissionDenied, match=r"cannot write .*--config-dir.*0 files were written before"):
        files.execute(plan.Plan((plan.MakeAuthority("x"),), ()), place, NOW)


def test_client_of_the_organisations_server(place, tmp_path):
    set_up(place)
    other = certificates.make_authority("organisation", NOW)
    theirs = certificates.issue_server(other, ("box",), NOW)
    place.certificate.write_bytes(certificates.certificate_pem(theirs.certificate))
    written = files.write_client(place, "two", NOW)
    assert [path.name for path in written] == ["two.key", "two.pem"]
    place.server_ca.write_bytes(certificates.certificate_pem(other.certificate))
    written = files.write_client(place, "two", NOW, b"secret", tmp_path / "elsewhere")
    assert [path.name for path in written] == ["two.key", "two.pem", "ca.pem", "two.p12"]
    assert written[2].read_bytes() == certificates.certificate_pem(other.certificate)
    assert {mode(path) for path in (written[0], written[3])} == {0o600}


def test_nothing_there(place):
    assert files.look(place) == Present({})
    with pytest.raises(InvalidArgument, match="run `appliance setup` first"):
        files.write_client(place, "x", NOW)


def test_an_expired_certificate_is_made_anew_over_its_key(place):
    set_up(place)
    key = place.key.read_bytes()
    late = NOW + 900 * DAY
    assert set_up(place, late) == (place.certificate,)
    assert place.key.read_bytes() == key
