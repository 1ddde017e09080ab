"""Where private keys are: the seam between signing and files, and one day PKCS#11 tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from appliance.errors import PermissionDenied
from appliance.publish.release import keys

if TYPE_CHECKING:
    from securesystemslib.signer import Signer, SSlibKey

# Called with a key's name, and whether it is a new one (so that a person is asked twice); gives its passphrase.
Passphrase = Callable[[str, bool], bytes]


class Signers(Protocol):
    """The private keys that can be used here."""

    def has(self, keyid: str) -> bool:
        """Whether ``signer`` would find the key; asks nobody for anything."""
        ...

    def signer(self, keyid: str) -> "Signer":
        """What signs with the key. Raises NotFound, PermissionDenied or FailedPrecondition."""
        ...

    def create(self, role: str) -> "SSlibKey":
        """A new key pair for a role; its public half."""
        ...


class FileSigners:
    """Keys in a folder. A passphrase that fitted one key is tried on the next before anybody is asked again."""

    def __init__(self, folder: Path, passphrase: Passphrase) -> None:
        self._folder = folder
        self._ask = passphrase
        self._known: list[bytes] = []
        self._open: dict[str, Signer] = {}

    def has(self, keyid: str) -> bool:
        """Whether there is a file for the key."""
        return keyid in self._open or keys.find(self._folder, keyid) is not None

    def signer(self, keyid: str) -> "Signer":
        """Opens the key's file, once."""
        if keyid not in self._open:
            path = keys.find(self._folder, keyid) or self._folder / f"{keys.stem('*', keyid)}.pem"
            self._open[keyid] = self._opened(path, keyid)
        return self._open[keyid]

    def _opened(self, path: Path, keyid: str) -> "Signer":
        for known in self._known:
            try:
                return keys.load(path, keyid, known)
            except PermissionDenied as error:
                if error.reason != "PASSPHRASE":
                    raise
        passphrase = self._ask(path.name, False)
        signer = keys.load(path, keyid, passphrase)
        self._known.append(passphrase)
        return signer

    def create(self, role: str) -> "SSlibKey":
        """A new key under the passphrase that was given for a new key before, else under one that is asked for."""
        if not self._known:
            passphrase = self._ask(f"new keys ({role})", True)
            keys.check_passphrase(passphrase)
            self._known.append(passphrase)
        return keys.create(self._folder, role, self._known[-1])
