"""A box in a network: TLS, keys as systemd hands them over, whom the kernel lets in, and a renewed certificate."""

import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from certificates import Party, issue
from cryptography import x509
from installed_box import UNIT, Box
from installed_disk import MODELS, Installed
from machine_link import Link, connect
from tls_callers import Callers

FOLDER = "/etc/inference-appliance/tls"
CONFIG = """[server]
address = "0.0.0.0:8001"
[server.tls]
certificate = "{folder}/server.pem"
key = "{key}"
"""


class Secured(NamedTuple):
    box: Box
    link: Link
    authority: Party

    @property
    def address(self) -> str:
        return f"{self.link.friends.there}:8001"

    def channel(self) -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(self.authority.pem), options=options)

    def renew(self, name: str, group: str = "inference-appliance") -> None:
        """A new certificate and key in their place, as an operator's script would put them."""
        with tempfile.TemporaryDirectory() as folder:
            issue(name, self.authority, self.link.friends.there).write(Path(folder), "server")
            for file in ("server.key", "server.pem"):
                part = self.box.machine.path(f"{FOLDER}/{file}.part")
                shutil.copyfile(f"{folder}/{file}", part)
                self.box.machine.run("chmod", "640", f"{FOLDER}/{file}.part")
                self.box.machine.run("chgrp", group, f"{FOLDER}/{file}.part")
                part.rename(part.with_suffix(""))

    def configure(self, key: str) -> None:
        """The configuration, and the drop-in that follows from it; then a restart."""
        self.box.configure("50-tls", CONFIG.format(folder=FOLDER, key=key))
        drop_in = f"/etc/systemd/system/{UNIT}.d/50-generated.conf"
        allow = ("--allow", self.link.friends.cidr)
        self.box.machine.run("appliance", "config", "systemd", *allow, "--output", drop_in)
        self.box.machine.run("systemctl", "daemon-reload")
        self.box.systemctl("restart")
        self.box.eventually(lambda: self.box.serves(*MODELS))

    def served_name(self) -> str:
        """The name in the certificate that a new connection is shown."""
        host, _, port = self.address.partition(":")
        pem = ssl.get_server_certificate((host, int(port)), timeout=10)
        (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return str(name.value)


@pytest.fixture(scope="module")
def secured(installed: Installed) -> Iterator[Secured]:
    with installed.box() as box:
        made = Secured(box, connect(box.machine), issue("authority"))
        box.machine.run("mkdir", FOLDER)
        made.renew("first")
        made.configure(f"{FOLDER}/server.key")
        yield made


def test_reload_with_a_new_certificate(secured: Secured) -> None:
    assert secured.served_name() == "first"
    pid = secured.box.pid
    with Callers(secured.channel) as callers:
        for name in ("second", "third"):
            secured.renew(name)
            secured.box.systemctl("reload")
            secured.box.eventually(lambda name=name: secured.served_name() == name)
            callers.more()
    assert callers.failures == []
    assert (secured.box.pid, secured.box.active) == (pid, "active")


def test_whom_the_kernel_lets_in(secured: Secured) -> None:
    with socket.create_connection((secured.link.friends.there, 8001), timeout=10):
        pass
    stranger = secured.link.strangers.there
    with pytest.raises(ConnectionRefusedError):  # the machine itself can be reached
        socket.create_connection((stranger, 9), timeout=10)
    with pytest.raises(TimeoutError):
        socket.create_connection((stranger, 8001), timeout=1)


def test_a_key_that_only_root_can_read(secured: Secured) -> None:
    """systemd hands it over; a renewed one is taken up by a restart."""
    secured.renew("fourth", group="root")
    secured.box.drop_in("40-key", f"[Service]\nLoadCredential=server.key:{FOLDER}/server.key\n")
    secured.box.machine.run("chmod", "644", f"{FOLDER}/server.pem")
    secured.configure("credential:server.key")
    assert secured.served_name() == "fourth"


def test_a_key_that_is_encrypted(secured: Secured) -> None:
    """With a secret of this machine, as on a box that may be stolen: the file is of no use elsewhere."""
    secured.renew("fifth", group="root")
    run = secured.box.machine.run
    sealed = f"{FOLDER}/server.key.cred"
    run("systemd-creds", "encrypt", "--with-key=host", "--name=server.key", f"{FOLDER}/server.key", sealed)
    run("rm", f"{FOLDER}/server.key")
    run("chmod", "644", f"{FOLDER}/server.pem")
    secured.box.drop_in("40-key", f"[Service]\nLoadCredentialEncrypted=server.key:{sealed}\n")
    secured.configure("credential:server.key")
    assert secured.served_name() == "fifth"
