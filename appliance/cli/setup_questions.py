"""What `appliance setup` asks at a terminal: only what no flag has said, with what held before as the answer to Enter."""

import socket
from collections.abc import Callable
from pathlib import Path

import typer

from appliance.address import parse_address
from appliance.cli import output
from appliance.setup.answers import Before, Given, check_client_name, check_host


def ask(given: Given, before: Before, host: str, *, with_unit: bool) -> Given:
    """The same with what was answered. Ctrl-C ends it, with nothing changed."""
    output.say("Enter takes what stands in [brackets]. Nothing is written before you have seen all of it.")
    said = str(before.settings.get("server.address", "0.0.0.0:8001"))  # a question, with TLS as the default
    address = given.address or _asked("Where do clients connect (127.0.0.1:8001: this machine only)?", said, _address)
    given = given._replace(address=address)
    reachable = not parse_address(address).is_loopback
    if reachable and with_unit and not given.allow:
        shown = ", ".join(before.networks)
        answer = _asked("Clients' networks (10.1.0.0/16, 10.2.0.7; any for all)?", shown, _networks)
        given = given._replace(allow=_parts(answer))
    if reachable and given.tls is None:
        given = _certificates(given, before, host)
    return _registry(given, before)


def own_address() -> str:
    """The address by which this machine would reach another network; "" where there is none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def _certificates(given: Given, before: Before, host: str) -> Given:
    if "server.tls.certificate" in before.settings and not given.renew:
        output.say("Certificates: there already; they stay.")
        return given
    if given.certificate is None and _asked("Certificates: own, or organisation's (own/org)?", "own", _kind) == "org":
        given = given._replace(
            certificate=Path(_asked("  The server's certificate and its chain, in PEM?", "", _file)),
            key=Path(_asked("  Its key, in PEM?", "", _file)),
            client_ca=_path(_asked("  Who signs clients' certificates, in PEM (empty: this box)?", "", _file_or_none)),
        )
    if not given.names:
        answer = _asked(f"Names or addresses that clients use beside {host}?", own_address(), _hosts)
        given = given._replace(names=_parts(answer))
    if not given.clients and given.client_ca is None:
        answer = _asked("Make certificates for which clients (names; empty: none yet)?", "operator", _clients)
        given = given._replace(clients=_parts(answer))
    return given


def _registry(given: Given, before: Before) -> Given:
    if given.registry is not None:
        return given
    said = str(before.settings.get("registry.url", ""))
    url = _asked("Registry of models (https://HOST; empty: none)?", said, _anything)
    if not url or url == said:
        return given if url == said else given._replace(registry=url)
    prefix = given.registry_prefix or _asked(
        "  What its names begin with (plant/north; empty: nothing)?", "", _anything
    )
    ca = given.registry_ca or _path(_asked("  Who signed its certificate, in PEM (empty: known)?", "", _file_or_none))
    login = given.registry_credentials or _path(
        _asked("  File with its password, as skopeo login writes it (empty: none)?", "", _file_or_none)
    )
    root = given.trust or _path(_asked("  The publisher's root of trust, ROOT.json (empty: later)?", "", _file_or_none))
    return given._replace(registry=url, registry_prefix=prefix, registry_ca=ca, registry_credentials=login, trust=root)


def _asked(question: str, default: str, check: Callable[[str], None]) -> str:
    """Again until the answer will do; what is wrong with one is said."""
    while True:
        answer = str(typer.prompt(question.rstrip("?"), default=default, show_default=bool(default))).strip()
        try:
            check(answer)
        except ValueError as error:
            output.say(f"  {error}")
        except Exception as error:
            output.say(f"  {getattr(error, 'message', error)}")
        else:
            return answer


def _parts(answer: str) -> tuple[str, ...]:
    return tuple(answer.replace(",", " ").split())


def _path(answer: str) -> Path | None:
    return Path(answer).expanduser() if answer else None


def _address(answer: str) -> None:
    parse_address(answer)


def _networks(answer: str) -> None:
    from appliance.cli.service_drop_in import network

    if not _parts(answer):
        raise ValueError("the service answers only networks that it is told")
    for each in _parts(answer):
        network(each)


def _hosts(answer: str) -> None:
    for each in _parts(answer):
        check_host(each)


def _clients(answer: str) -> None:
    for each in _parts(answer):
        check_client_name(each)


def _kind(answer: str) -> None:
    if answer not in ("own", "org"):
        raise ValueError('"own" makes them here; "org" takes files that your organisation gave you')


def _file(answer: str) -> None:
    if not Path(answer).expanduser().is_file():
        raise ValueError(f"there is no file {answer or 'without a name'}")


def _file_or_none(answer: str) -> None:
    if answer:
        _file(answer)


def _anything(answer: str) -> None:
    """What the configuration's own rules judge afterwards."""
