"""What tests of the set-up share: a moment, an authority with what it signs in files, answers of an operator."""

import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from appliance.setup import certificates
from appliance.setup.answers import Answers, Before, Given, complete
from appliance.setup.certificates import Signer
from appliance.setup.layout import Layout

NOW = datetime.datetime(2027, 3, 1, 12, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def answers(given: Given | None = None, before: Before | None = None, **more: Any) -> Answers:
    """Complete ones, on a machine called box, reachable from outside unless ``more`` says otherwise."""
    said = (given or Given())._replace(**{"address": "0.0.0.0:8001", **more})
    return complete(said, before or Before({}), "box", with_unit=False)


def layout(folder: Path, *, unit: bool = False) -> Layout:
    return Layout(folder / "etc", folder / "unit" if unit else None)


class Organisation:
    """Files of an organisation: root.pem, server.pem, server.key, clients.pem, in ``folder``."""

    def __init__(self, folder: Path, *names: str, now: datetime.datetime = NOW) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.root = certificates.make_authority("organisation", now)
        self.clients = certificates.make_authority("clients of the organisation", now)
        self.server = certificates.issue_server(self.root, names or ("box",), now)
        self.paths = {name: folder / name for name in ("root.pem", "server.pem", "server.key", "clients.pem")}
        self.put("root.pem", self.root)
        self.put("clients.pem", self.clients)
        self.put("server.pem", self.server)
        self.put_key("server.key", self.server)

    def put(self, name: str, *signers: Signer) -> None:
        self.paths[name].write_bytes(b"".join(certificates.certificate_pem(each.certificate) for each in signers))

    def put_key(self, name: str, signer: Signer, passphrase: bytes = b"") -> None:
        how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        self.paths[name].write_bytes(signer.key.private_bytes(pem, pkcs8, how))
        self.paths[name].chmod(0o600)
