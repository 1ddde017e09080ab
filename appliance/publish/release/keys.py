"""Key files: an Ed25519 key pair as PKCS#8 PEM under a passphrase, and its public half to hand to others.

A private key lies in ``ROLE.KEYID16.pem`` with mode 0600, KEYID16 being the beginning of its TUF key id (TUF specification
1.0, clause 4.2: the sha256 of the public key's canonical JSON). Whoever may read the file may guess at the passphrase as
fast as the machine can (PBKDF2 as OpenSSL writes it: 0.3 ms a guess), hence its least length.
"""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from appliance import limits
from appliance.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from appliance.osutil import durable

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

PRIVATE_MODE = 0o600
FOLDER_MODE = 0o700
PASSPHRASE_CHARS_MIN = 12
_ID_CHARS = 16
_SCHEMA = "inference-appliance/public-key"


class _Public(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key's file."""

    schema: str
    role: str
    ed25519: str


class PublicKey(NamedTuple):
    """A public key, and the role that it was made for."""

    role: str
    key: "SSlibKey"


def fingerprint(keyid: str) -> str:
    """The key id in groups of four, as people compare it."""
    return " ".join(keyid[i : i + 4] for i in range(0, len(keyid), 4))


def stem(role: str, keyid: str) -> str:
    """A key's file name without its suffix."""
    return f"{role}.{keyid[:_ID_CHARS]}"


def create(folder: Path, role: str, passphrase: bytes) -> "SSlibKey":
    """Makes a key pair for a role and writes both halves. Raises InvalidArgument for a short passphrase."""
    from cryptography.hazmat.primitives import serialization
    from securesystemslib.signer import CryptoSigner

    check_passphrase(passphrase)
    signer = CryptoSigner.generate_ed25519()
    key = signer.public_key
    pem = signer._private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
    durable.mkdir(folder, FOLDER_MODE)
    private = folder / f"{stem(role, key.keyid)}.pem"
    if private.exists():
        raise AlreadyExists(f"{private.name} is there already", reason="KEY_EXISTS")
    durable.write(private, pem, mode=PRIVATE_MODE, point="publish.key")
    durable.write(private.with_suffix(".pub"), public_file(role, key), point="publish.key_public")
    return key


def check_passphrase(passphrase: bytes) -> None:
    """Raises InvalidArgument PASSPHRASE for one that is too short to protect a key."""
    if len(passphrase.decode("utf-8", "replace")) < PASSPHRASE_CHARS_MIN:
        raise InvalidArgument(
            f"the passphrase must have at least {PASSPHRASE_CHARS_MIN} characters: a stolen key file can be guessed at "
            "without limit",
            reason="PASSPHRASE",
        )


def public_file(role: str, key: "SSlibKey") -> bytes:
    """What is handed to whoever puts the key into a role."""
    public = _Public(schema=_SCHEMA, role=role, ed25519=key.keyval["public"])
    return msgspec.json.format(msgspec.json.encode(public), indent=2) + b"\n"


def read_public(path: Path) -> PublicKey:
    """A public key's file from anybody. Raises NotFound or InvalidArgument PUBLIC_KEY."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib.signer import SSlibKey

    data = _read(path, "public key")
    try:
        public = msgspec.json.decode(data, type=_Public)
        if public.schema != _SCHEMA:
            raise ValueError(f"its schema is {public.schema[:100]!r}")
        key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public.ed25519)))
    except ValueError as error:
        raise InvalidArgument(
            f"{path.name} is no public key of a publisher: {error}; ask for the .pub file", reason="PUBLIC_KEY"
        ) from None
    return PublicKey(public.role, key)


def find(folder: Path, keyid: str) -> Path | None:
    """The private key's file, where there is one."""
    return next(iter(sorted(folder.glob(f"*.{keyid[:_ID_CHARS]}.pem"))), None)


def load(path: Path, keyid: str, passphrase: bytes) -> "CryptoSigner":
    """Opens a private key.

    Raises PermissionDenied KEY_READABLE when others may read the file, PermissionDenied PASSPHRASE when the passphrase
    is wrong, and FailedPrecondition KEY_BROKEN for anything that is not the key of that id.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    pem = _read(path, "private key", secret=True)
    if b"BEGIN ENCRYPTED PRIVATE KEY" not in pem:
        raise FailedPrecondition(f"{path.name} is no PKCS#8 key under a passphrase", reason="KEY_BROKEN")
    try:
        private = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError):  # an empty one is a TypeError
        # OpenSSL tells a wrong passphrase and a damaged file apart by chance only.
        raise PermissionDenied(f"wrong passphrase for the key {path.name}", reason="PASSPHRASE") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise FailedPrecondition(f"{path.name} is no Ed25519 key", reason="KEY_BROKEN")
    signer = CryptoSigner(private)
    if signer.public_key.keyid != keyid:
        raise FailedPrecondition(f"{path.name} holds another key than its name says", reason="KEY_BROKEN")
    return signer


def _read(path: Path, what: str, *, secret: bool = False) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if secret else 0))
    except OSError as error:
        raise NotFound(f"{what} {path.name}: {os.strerror(error.errno or 0)}", reason="KEY_MISSING") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limits.publish_key_bytes_max:
            raise InvalidArgument(f"{path.name} is no {what}", reason="KEY_BROKEN")
        if secret and found.st_mode & 0o077:
            raise PermissionDenied(
                f"{path.name} can be read by others (mode {stat.S_IMODE(found.st_mode):04o}): the key may be known to "
                f"them; chmod 600 it, and rotate it unless you know that nobody has read it",
                reason="KEY_READABLE",
            )
        return os.read(fd, limits.publish_key_bytes_max)
    finally:
        os.close(fd)
