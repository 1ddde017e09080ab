"""What a poll of the trust costs over a real connection: its requests and its bytes, both ways, heads and handshakes included."""

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from certificates import issue
from counting_proxy import CountingProxy, counting_proxy
from http_rig import credentials_file

from appliance.clock import FakeClock
from appliance.registry.http.options import HttpOptions
from appliance.registry.http.source import HttpSource
from appliance.registry.http.target import HttpTarget
from appliance.registry.sources.base import Target
from appliance.registry.trust import carried, files
from appliance.registry.trust.releases import Trust
from tests.support.tuf_repository import PREFIX, TufRepository

LINES = ("press", "weld", "paint")


class Poll(NamedTuple):
    """``requests``: 0 where they are encrypted."""

    requests: int
    bytes: int


def publish(target: Target, repository: TufRepository) -> None:
    """Puts the metadata where boxes look for them."""
    place = carried.repository_of(PREFIX)
    for name, data in repository.files.items():
        files.put(target, place, name, data)


class Polls:
    """A publisher's releases in the registry at ``options``, and a box that polls it through ``proxy``."""

    def __init__(self, folder: Path, options: HttpOptions, proxy: CountingProxy, secure: bool = False) -> None:
        clock = FakeClock()
        self.repository = TufRepository(clock, LINES)
        for line in LINES:
            self.repository.release(line, "1.0.0")
        self.repository.publish(*(f"models.{line}" for line in LINES))
        self._target = HttpTarget(options)
        publish(self._target, self.repository)
        self._proxy = proxy
        url = proxy.url.replace("http://", "https://") if secure else proxy.url
        self._source = HttpSource(HttpOptions(url=url, ca=options.ca, credentials=options.credentials))
        self._trust = Trust(folder / "trust", self._source, PREFIX, clock)
        self._trust.install(self.repository.files["1.root.json"])

    def poll(self, *, anew: bool = False) -> Poll:
        """One refresh; ``anew``: over a new connection, as after an hour."""
        if anew:
            self._source.close()
        before = self._proxy.requests, self._proxy.sent + self._proxy.received
        self._trust.refresh()
        return Poll(self._proxy.requests - before[0], self._proxy.sent + self._proxy.received - before[1])

    def release(self) -> None:
        """Something new for the next poll."""
        self.repository.release(LINES[0], "2.0.0")
        self.repository.publish(f"models.{LINES[0]}")
        publish(self._target, self.repository)

    def close(self) -> None:
        self._source.close()
        self._target.close()


@contextlib.contextmanager
def against_docker_registry(folder: Path, *, secure: bool = False, login: bool = False) -> Iterator[Polls]:
    """With a real registry: over TLS, with a user and a password, or plain."""
    from docker_registry import PASSWORD, USER, docker_registry  # brings pytest

    ca, credentials, tls = "", "", None
    if secure:
        authority = issue("authority")
        authority.write(folder, "ca")
        issue("server", authority).write(folder, "server")
        ca, tls = str(folder / "ca.pem"), (folder / "server.pem", folder / "server.key")
    with docker_registry(folder / "registry", tls=tls, login=login) as registry, counting_proxy(registry.host) as proxy:
        if login:
            auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            hosts = registry.host, proxy.url.removeprefix("http://")
            credentials = credentials_file(folder, *((host, auth) for host in hosts))
        made = Polls(folder, HttpOptions(url=registry.url, ca=ca, credentials=credentials), proxy, secure=secure)
        yield made
        made.close()
