"""``host:port``: the one way in which addresses are written in the configuration, on the command line and in messages."""

import ipaddress
from typing import NamedTuple

_PORT_MAX = 65_535


class Address(NamedTuple):
    """Where to listen or connect. ``host`` is without brackets; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost may mean any interface: no."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Reads ``192.0.2.7:8001``, ``[::1]:8001`` or ``box.example:8001``; raises ValueError that says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError('expected "host:port", for example "127.0.0.1:8001" or "[::1]:8001"')
    if not (port.isascii() and port.isdigit() and int(port) <= _PORT_MAX):
        raise ValueError(f'the port after the last ":" must be a whole number from 0 to {_PORT_MAX}')
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError("what stands in brackets must be an IPv6 address") from None
    if ":" in host:
        raise ValueError('an IPv6 address must stand in brackets, for example "[::1]:8001"')
    if not _is_host(host):
        raise ValueError("the host must be an IP address or a name of letters, digits, dots and hyphens")
    return Address(host, int(port))


def _is_host(host: str) -> bool:
    """Whether it is an IPv4 address or a host name (RFC 1123); 1.2.3.400 is neither."""
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return False
        return True
    return len(host) <= 253 and all(
        1 <= len(label) <= 63
        and label.isascii()
        and label.replace("-", "").replace("_", "").isalnum()
        and not label.startswith("-")
        and not label.endswith("-")
        for label in labels
    )
