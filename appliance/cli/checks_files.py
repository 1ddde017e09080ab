"""What `appliance doctor` finds out about the daemon's surroundings: configuration, certificates, folders, socket, port."""

import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance import credentials
from appliance.address import Address, parse_address
from appliance.cli.checks import Check
from appliance.cli.checks_state import check_state
from appliance.config import Config
from appliance.config_file import Loaded

# The addresses on which the daemon behind this unix socket says that it listens; raises whatever it likes.
AskDaemon = Callable[[Path], list[str]]


def check_surroundings(loaded: Loaded, ask: AskDaemon) -> Iterator[Check]:
    """All of them, in the order in which they build on each other."""
    config = loaded.config
    yield from check_config_files(loaded)
    yield from check_tls(config)
    yield check_folder("state folder", config.state_dir)
    yield from check_state(config.state_dir)
    yield check_folder("runtime folder", config.runtime_dir)
    listening, found = check_socket(config.unix_socket, ask)
    yield found
    yield check_port(parse_address(config.server.address), listening)


def check_config_files(loaded: Loaded) -> Iterator[Check]:
    """That only their owner can change them."""
    open_files = [str(file) for file in loaded.files if file.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)]
    names = ", ".join(str(file) for file in loaded.files)
    yield Check("configuration", "ok", f"{names or 'no file, the defaults hold'}; {len(loaded.origins)} keys set")
    if open_files:
        shown = ", ".join(open_files)
        yield Check("configuration", "warn", f"others may write {shown}", f"chmod go-w {' '.join(open_files)}")


def check_tls(config: Config) -> Iterator[Check]:
    """That the files are there, readable, and belong together."""
    tls = config.server.tls
    if not tls.certificate:
        return
    named = [path for path in (tls.certificate, tls.key, tls.client_ca) if credentials.named(path)]
    if named:
        yield Check("tls", "ok", f"{', '.join(named)}: only the service can look at what systemd hands to it")
        return
    unreadable = [path for path in (tls.certificate, tls.key, tls.client_ca) if path and _why_unreadable(path)]
    if unreadable:
        path, why = unreadable[0], _why_unreadable(unreadable[0])
        yield Check("tls", "bad", f"{path}: {why}", "correct [server.tls], and let the daemon's user read the file")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password instead of a question on the terminal.
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError as error:
        yield Check("tls", "bad", f"{tls.certificate} and {tls.key}: {_ssl_words(error)}", "correct [server.tls]")
        return
    if tls.client_ca:
        try:
            context.load_verify_locations(tls.client_ca)
        except ssl.SSLError as error:
            yield Check("tls", "bad", f"{tls.client_ca}: {_ssl_words(error)}", "correct server.tls.client_ca")
            return
    if credentials.exposed(tls.key):
        yield Check("tls", "bad", f"others may read or change {tls.key}", credentials.mend(tls.key))
        return
    yield Check(
        "tls", "ok", "certificate and key belong together" + (", clients need one too" if tls.client_ca else "")
    )


def check_folder(name: str, folder: Path) -> Check:
    """That it exists or can be made, and that only its owner can write into it."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return Check(name, "bad", f"{existing} is not a folder", "move it away, or name another folder under [paths]")
    if existing == folder and folder.stat().st_mode & stat.S_IWOTH:
        return Check(name, "bad", f"everybody may write into {folder}", f"chmod o-w {folder}")
    if not os.access(existing, os.W_OK | os.X_OK):
        owner = existing.stat().st_uid
        advice = "fine if the daemon runs as that user; else name another folder under [paths]"
        return Check(name, "warn", f"this user may not write into {existing} (owner: {owner})", advice)
    return Check(name, "ok", str(folder) if existing == folder else f"{folder} will be made")


def check_socket(path: Path, ask: AskDaemon) -> tuple[list[str] | None, Check]:
    """Whether our daemon answers there; its addresses, or None when it doesn't run."""
    if not path.exists():
        return None, Check("unix socket", "ok", f"{path} is not there: the daemon does not run")
    if not path.is_socket():
        return None, Check("unix socket", "bad", f"{path} is not a socket", "move that file away")
    try:
        addresses = ask(path)
    except Exception as error:
        found = f"{path}: {str(error) or type(error).__name__}"
        advice = "if no daemon runs it is left over, and the next start removes it; else see `journalctl`"
        return None, Check("unix socket", "warn", found, advice)
    return addresses, Check("unix socket", "ok", f"the daemon answers at {path}")


def check_port(address: Address, listening: list[str] | None) -> Check:
    """That the configured address is ours already, or free."""
    if listening is not None and str(address) in listening:
        return Check("address", "ok", f"the daemon listens on {address}")
    if address.port == 0:
        return Check("address", "ok", f"{address}: the system chooses a port")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the daemon does: connections of a previous run that still end don't matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        advice = f"see who has it with `ss -ltnp`, or set another server.address than {address}"
        return Check("address", "bad", f"{address}: {(error.strerror or str(error)).lower()}", advice)
    return Check("address", "ok", f"{address} is free")


def _why_unreadable(path: str) -> str | None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        return error.strerror
    return None


def _ssl_words(error: ssl.SSLError) -> str:
    """OpenSSL's reason as words: KEY_VALUES_MISMATCH is "key values mismatch"."""
    return (error.reason or "not PEM").replace("_", " ").lower()
