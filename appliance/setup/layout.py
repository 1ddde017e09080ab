"""Where everything lies below the configuration's folder."""

from pathlib import Path
from typing import NamedTuple

CONFIG_DIR = Path("/etc/inference-appliance")
UNIT_DIR = Path("/etc/systemd/system/inference-appliance.service.d")
# The user and group of the service (packaging/systemd/sysusers.conf).
SERVICE = "inference-appliance"


class Layout(NamedTuple):
    """``unit_dir`` None: no drop-in is written."""

    config_dir: Path
    unit_dir: Path | None

    @property
    def main(self) -> Path:
        """The configuration that others are read beside."""
        return self.config_dir / "appliance.toml"

    @property
    def settings(self) -> Path:
        """The one file of settings that is written."""
        return self.config_dir / "conf.d" / "50-setup.toml"

    @property
    def drop_in(self) -> Path | None:
        """The unit's drop-in, the same that `appliance config systemd` is told to write."""
        return self.unit_dir / "50-generated.conf" if self.unit_dir else None

    @property
    def authority(self) -> Path:
        """The certificate of this box's own authority."""
        return self.config_dir / "ca" / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """Its key: only root reads it, and only to sign."""
        return self.config_dir / "ca" / "ca.key"

    @property
    def certificate(self) -> Path:
        """What the server shows."""
        return self.config_dir / "tls" / "server.pem"

    @property
    def key(self) -> Path:
        """Its key: the service's group may read it, so that a new one needs a reload only."""
        return self.config_dir / "tls" / "server.key"

    @property
    def client_ca(self) -> Path:
        """The organisation's authority of clients, where clients' certificates are not made here."""
        return self.config_dir / "tls" / "client-ca.pem"

    @property
    def server_ca(self) -> Path:
        """What clients verify the organisation's certificate of the server with."""
        return self.config_dir / "tls" / "server-ca.pem"

    def client(self, name: str) -> Path:
        """The folder that is carried to a client."""
        return self.config_dir / "clients" / name


def layout(config_dir: Path | None, unit_dir: Path | None) -> Layout:
    """By the options; another configuration than the service's has no unit, unless one says so."""
    folder = (config_dir or CONFIG_DIR).absolute()
    if unit_dir is None and folder == CONFIG_DIR:
        unit_dir = UNIT_DIR
    return Layout(folder, unit_dir)
