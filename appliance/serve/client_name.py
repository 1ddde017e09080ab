"""Who asks: the name by which an engine is fair between clients. Not an authorization of any kind."""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

import grpc

from appliance import limits

# All who come over the unix socket are this machine.
LOCAL = "local"


def of_call(context: grpc.ServicerContext) -> str:
    """With mutual TLS the certificate's common name, else its first alternative name; else the peer's host; or "local".

    Several clients behind one address are one client to us.
    """
    return (_certified(context) or host_of(context.peer()))[: limits.client_name_chars_max]


def _certified(context: grpc.ServicerContext) -> str:
    """What the client's certificate says, which gRPC has verified; "" without one."""
    facts: Mapping[str, Iterable[bytes]] = context.auth_context()  # type: ignore[assignment]  # bytes, not int
    for key in ("x509_common_name", "x509_subject_alternative_name"):
        for value in facts.get(key, ()):
            if value:
                return value.decode(errors="replace")
    return ""


def host_of(peer: str) -> str:
    """``ipv4:10.0.0.7:5432`` without its port; gRPC writes ``ipv6:%5B::1%5D:5432`` with its brackets quoted."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return LOCAL
    host, _, _ = unquote(rest).rpartition(":")
    return f"{family}:{host.strip('[]')}"
