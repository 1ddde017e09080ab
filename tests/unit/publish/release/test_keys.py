"""Key files: made private, opened only by the right passphrase, and never when others could have read them."""

import os
import stat

import pytest

from appliance.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from appliance.publish.release import keys
from appliance.publish.release.signers import FileSigners

RIGHT = b"correct horse battery"


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "keys"
    key = keys.create(folder, "root", RIGHT)
    return folder, key.keyid, keys.find(folder, key.keyid)


def test_written_private_and_encrypted(made):
    folder, keyid, path = made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert path.name == f"root.{keyid[:16]}.pem"


def test_the_public_half_is_the_same_key(made):
    _, keyid, path = made
    public = keys.read_public(path.with_suffix(".pub"))
    assert (public.role, public.key.keyid) == ("root", keyid)
    signature = keys.load(path, keyid, RIGHT).sign(b"payload")
    public.key.verify_signature(signature, b"payload")


@pytest.mark.parametrize("wrong", [b"wrong horse battery", b"", b"\xff" * 20, b"x" * 5000])
def test_wrong_passphrase(made, wrong):
    _, keyid, path = made
    with pytest.raises(PermissionDenied, match="wrong passphrase") as caught:
        keys.load(path, keyid, wrong)
    assert caught.value.reason == "PASSPHRASE"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(made, mode):
    _, keyid, path = made
    path.chmod(mode)
    with pytest.raises(PermissionDenied, match="can be read by others") as caught:
        keys.load(path, keyid, RIGHT)
    assert caught.value.reason == "KEY_READABLE"


def test_a_link_is_not_followed(made, tmp_path):
    _, keyid, path = made
    path.rename(tmp_path / "elsewhere.pem")
    path.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(NotFound):
        keys.load(path, keyid, RIGHT)


def test_a_pipe_does_not_hang(made):
    _, keyid, path = made
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(InvalidArgument, match="no private key"):
        keys.load(path, keyid, RIGHT)


def test_another_key_under_the_name(made):
    folder, keyid, path = made
    other = keys.create(folder, "root", RIGHT)
    path.write_bytes(keys.find(folder, other.keyid).read_bytes())
    with pytest.raises(FailedPrecondition, match="another key"):
        keys.load(path, keyid, RIGHT)


@pytest.mark.parametrize("kind", ["plain", "ecdsa", "text"])
def test_not_our_kind_of_key(made, kind):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    _, keyid, path = made
    secret = serialization.BestAvailableEncryption(RIGHT)
    private = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else ed25519.Ed25519PrivateKey.generate()
    if kind == "plain":
        secret = serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    path.write_bytes(b"hello" if kind == "text" else pem)
    path.chmod(0o600)
    with pytest.raises(FailedPrecondition) as caught:
        keys.load(path, keyid, RIGHT)
    assert caught.value.reason == "KEY_BROKEN"


@pytest.mark.parametrize("short", [b"", b"elevenchars", "zwölf Zeich".encode()])
def test_short_passphrases_protect_nothing(tmp_path, short):
    with pytest.raises(InvalidArgument, match="at least 12"):
        keys.create(tmp_path, "root", short)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"schema":"inference-appliance/public-key","role":"root","ed25519":"zz"}',
        b'{"schema":"inference-appliance/public-key","role":"root","ed25519":"00"}',
        b'{"schema":"else","role":"root","ed25519":"' + b"00" * 32 + b'"}',
        b'{"schema":"inference-appliance/public-key","role":"root","ed25519":"' + b"00" * 32 + b'","more":1}',
        b"[" * 10_000,
    ],
)
def test_bad_public_files(tmp_path, data):
    path = tmp_path / "x.pub"
    path.write_bytes(data)
    with pytest.raises(InvalidArgument, match="no public key"):
        keys.read_public(path)


def test_large_public_file(tmp_path):
    path = tmp_path / "x.pub"
    path.write_bytes(b" " * 20_000)
    with pytest.raises(InvalidArgument):
        keys.read_public(path)
    with pytest.raises(NotFound):
        keys.read_public(tmp_path / "none.pub")


def test_one_question_for_keys_with_one_passphrase(tmp_path):
    asked = []

    def ask(name, new):
        asked.append((name, new))
        return RIGHT

    first = FileSigners(tmp_path, ask)
    made = [first.create("root").keyid for _ in range(3)]
    assert asked == [("new keys (root)", True)]
    asked.clear()
    second = FileSigners(tmp_path, ask)
    assert [second.has(keyid) for keyid in (*made, "00" * 32)] == [True, True, True, False]
    for keyid in made:
        second.signer(keyid)
    assert len(asked) == 1
    with pytest.raises(NotFound):
        second.signer("00" * 32)


def test_keys_with_passphrases_of_their_own(tmp_path):
    a, b = keys.create(tmp_path, "root", RIGHT), keys.create(tmp_path, "targets", b"quite another one")
    answers = {"root": RIGHT, "targets": b"quite another one"}
    signers = FileSigners(tmp_path, lambda name, _new: answers[name.split(".")[0]])
    assert signers.signer(a.keyid).public_key.keyid == a.keyid
    assert signers.signer(b.keyid).public_key.keyid == b.keyid


def test_a_key_is_not_overwritten(made, monkeypatch):
    from securesystemslib.signer import CryptoSigner

    folder, keyid, path = made
    signer = keys.load(path, keyid, RIGHT)
    monkeypatch.setattr(CryptoSigner, "generate_ed25519", staticmethod(lambda: signer))
    with pytest.raises(AlreadyExists):
        keys.create(folder, "root", RIGHT)
