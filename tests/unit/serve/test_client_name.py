"""By which name an engine knows who asks: over TLS with certificates of the test's own, else by the peer's address."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from certificates import Party, issue

from appliance import limits
from appliance.serve import client_name

PATIENCE = 20


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:41234", "ipv4:10.0.0.7"),
        ("ipv6:%5B::1%5D:41234", "ipv6:::1"),
        ("ipv6:[fe80::1%25eth0]:41234", "ipv6:fe80::1%eth0"),
        ("unix:", "local"),
        ("unix:/run/appliance.sock", "local"),
        ("", "local"),
    ],
)
def test_host(peer: str, host: str) -> None:
    assert client_name.host_of(peer) == host


@pytest.fixture(scope="module")
def authority() -> Party:
    return issue("authority")


@pytest.fixture(scope="module")
def secured(authority: Party) -> Iterator[dict[bool, int]]:
    """Ports of a server that answers with the name of who asks: with mutual TLS, and with TLS alone."""

    def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
        return client_name.of_call(context).encode()

    ours = issue("box", authority)
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.method_handlers_generic_handler("t", {"Who": grpc.unary_unary_rpc_method_handler(answer)})
    server.add_generic_rpc_handlers((handler,))
    ports = {}
    for mutual in (True, False):
        credentials = grpc.ssl_server_credentials(
            [(ours.key_pem, ours.pem)], authority.pem if mutual else None, require_client_auth=mutual
        )
        ports[mutual] = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield ports
    server.stop(0).wait()


def asked(port: int, authority: Party, client: Party | None) -> str:
    credentials = grpc.ssl_channel_credentials(
        authority.pem, client.key_pem if client else None, client.pem if client else None
    )
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call: Any = channel.unary_unary("/t/Who")
        return call(b"", timeout=PATIENCE).decode()


def test_a_certified_client_is_known_by_its_name(secured: dict[bool, int], authority: Party) -> None:
    assert asked(secured[True], authority, issue("robot 7", authority)) == "robot 7"
    assert asked(secured[True], authority, issue("robot 8", authority)) == "robot 8"


def test_a_certificate_without_a_common_name_is_known_by_its_other_name(
    secured: dict[bool, int], authority: Party
) -> None:
    assert asked(secured[True], authority, issue("", authority)) == "127.0.0.1"


def test_without_a_certificate_it_is_the_address(secured: dict[bool, int], authority: Party) -> None:
    assert asked(secured[False], authority, None) == "ipv4:127.0.0.1"


def test_names_are_bounded() -> None:
    class Context:
        def auth_context(self) -> dict[str, list[bytes]]:
            return {"x509_common_name": [b"\xff" + b"x" * 1000]}

    name = client_name.of_call(Context())  # type: ignore[arg-type]  # all that is asked of it
    assert name == "\ufffd" + "x" * (limits.client_name_chars_max - 1)
