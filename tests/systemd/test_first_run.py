"""An operator's first minutes: set up, do what it says comes next, call from another machine, look, renew."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from installed_box import Box
from installed_disk import MODELS, Installed
from machine_link import Link, connect
from triton_calls import stub
from tritonclient.grpc import service_pb2

CLIENT = "press-line-2"


class SetUp(NamedTuple):
    box: Box
    link: Link
    done: dict[str, Any]

    @property
    def address(self) -> str:
        return f"{self.link.friends.there}:8001"

    def given(self, kind: str) -> bytes:
        """What the client was given to carry away."""
        name = "ca.pem" if kind == "ca" else f"{CLIENT}.{kind}"
        folders = [
            Path(path)
            for path in self.box.machine.run("find", "/etc/inference-appliance", "-name", CLIENT).stdout.split()
        ]
        return self.box.machine.path(f"{folders[0]}/{name}").read_bytes()

    def channel(self, *, as_client: bool) -> grpc.Channel:
        own = (self.given("key"), self.given("pem")) if as_client else (None, None)
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(self.given("ca"), *own), options=options)


@pytest.fixture(scope="module")
def box(installed: Installed) -> Iterator[SetUp]:
    with installed.box() as made:
        link = connect(made.machine)
        where = ("--address", "0.0.0.0:8001", "--name", link.friends.there, "--allow", link.friends.cidr)
        done = made.json("setup", "--yes", *where, "--client", CLIENT)
        for command in done["next"]:
            made.machine.run(*command.split())
        made.eventually(lambda: made.serves(*MODELS))
        yield SetUp(made, link, done)


def live(channel: grpc.Channel) -> bool:
    return bool(stub(channel).ServerLive(service_pb2.ServerLiveRequest(), timeout=10).live)


def test_what_it_says_comes_next_is_all_there_is_to_do(box: SetUp) -> None:
    assert box.done["next"] == ["systemctl daemon-reload", "systemctl restart inference-appliance", "appliance doctor"]
    assert box.box.active == "active"
    assert live(box.channel(as_client=True))
    with pytest.raises(grpc.RpcError):
        live(box.channel(as_client=False))


def test_doctor_is_green_afterwards(box: SetUp) -> None:
    done = box.box.machine.run("appliance", "doctor", "--json", check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 0, found


def test_again_changes_nothing(box: SetUp) -> None:
    again = box.box.json("setup", "--yes")
    assert (again["steps"], again["next"]) == ([], [])


def test_a_renewed_certificate_is_served_after_a_reload(box: SetUp) -> None:
    host, port = box.link.friends.there, 8001
    before = ssl.get_server_certificate((host, port), timeout=10)
    pid = box.box.pid
    box.box.machine.run("appliance", "setup", "renew")
    box.box.systemctl("reload")
    box.box.eventually(lambda: ssl.get_server_certificate((host, port), timeout=10) != before)
    assert live(box.channel(as_client=True))
    assert box.box.pid == pid
