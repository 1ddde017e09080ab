"""A cable between a machine (machine.py) and us: two networks on it, so that one can be refused to whoever is in the other.

Addresses are from 198.18.0.0/15, which is set aside for tests of networks (RFC 2544).
"""

import subprocess
from typing import NamedTuple

from machine import Machine


class Network(NamedTuple):
    """``here``: our address, ``there``: the machine's; ``cidr``: the network with both."""

    here: str
    there: str
    cidr: str


class Link(NamedTuple):
    friends: Network
    strangers: Network


def connect(machine: Machine) -> Link:
    """Plugs the cable in; it is gone when the machine is off."""
    ours = f"ia{machine.leader}"  # at most 15 bytes
    link = Link(*(_network(f"198.{net}.{machine.leader >> 6 & 255}.{(machine.leader & 63) << 2}") for net in (18, 19)))
    _ip("link", "add", ours, "type", "veth", "peer", "name", "host0", "netns", str(machine.leader))
    for network in link:
        _ip("address", "add", f"{network.here}/30", "dev", ours)
        machine.run("ip", "address", "add", f"{network.there}/30", "dev", "host0")
    _ip("link", "set", ours, "up")
    machine.run("ip", "link", "set", "host0", "up")
    return link


def _network(base: str) -> Network:
    first, _, last = base.rpartition(".")
    return Network(f"{first}.{int(last) + 1}", f"{first}.{int(last) + 2}", f"{base}/30")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
