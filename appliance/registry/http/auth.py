"""Who we are to a registry: nothing, Basic, or a Bearer token from the realm that it names.

distribution's token specification. Secrets go to the server they are for and no other: a password to the registry's own
server or to one that the credentials file has an entry for, a token to the registry's own server only.
"""

import re
import threading
from typing import NamedTuple

import msgspec

from appliance import limits
from appliance.clock import Clock
from appliance.registry.http import answers, challenge, credentials
from appliance.registry.http.connections import Connections
from appliance.registry.http.credentials import Login
from appliance.registry.http.urls import Origin, origin_of, with_query
from appliance.registry.sources.failures import Malformed, Refused

# RFC 6750, 2.1: what a token consists of; anything else could be a second header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


class _Answer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: int = limits.http_token_s_default


class _Kept(NamedTuple):
    header: str
    until_ns: int


class Authorizer:
    """The Authorization headers of one registry. ``path``: the credentials file, empty: none."""

    def __init__(self, home: Origin, path: str, connections: Connections, clock: Clock) -> None:
        self._home = home
        self._path = path
        self._connections = connections
        self._clock = clock
        self._basic = ""
        self._tokens: dict[str, _Kept] = {}
        # Blobs are fetched side by side: one thread asks for a token, the others wait for it.
        self._lock = threading.Lock()

    def header(self, scope: str) -> str:
        """What a request to the registry carries, "" without any."""
        kept = self._tokens.get(scope)
        if kept is not None and kept.until_ns > self._clock.monotonic_ns():
            return kept.header
        return self._basic

    def answer(self, www_authenticate: str, scope: str, sent: str) -> str:
        """The Authorization for another try after a 401 to one that carried ``sent``.

        Raises Refused when there is none that could help, and what the realm's server fails with.
        """
        with self._lock:
            found = self.header(scope)
            if found.startswith("Bearer ") and found != sent:
                return found
            self._tokens.pop(scope, None)
            return self._login_again(www_authenticate, scope, sent)

    def _login_again(self, www_authenticate: str, scope: str, sent: str) -> str:
        offered = {each.scheme: each.parameters for each in challenge.parse(www_authenticate)}
        if "bearer" in offered:
            return self._bearer(offered["bearer"], scope)
        if "basic" not in offered:
            raise Refused(f"{self._home.netloc} wants a login of a kind that we don't have")
        login = self._login(self._home)
        if login is None:
            raise Refused(
                f"{self._home.netloc} wants a user and a password: "
                f"{self._path or 'name a file of credentials that'} has none for {self._home.netloc}"
            )
        if login.basic == sent:
            self._basic = ""
            raise Refused(f"{self._home.netloc} does not take the user or the password that {self._path} has for it")
        self._basic = login.basic
        return self._basic

    def _bearer(self, parameters: dict[str, str], scope: str) -> str:
        realm = parameters.get("realm", "")
        server = origin_of(realm)
        if self._home.scheme == "https" and server.scheme != "https":
            raise Refused(f"{self._home.netloc} sends us for a token to {server.url}, which is not encrypted")
        login = self._login(server)
        if login is None and server != self._home and self._login(self._home) is not None:
            raise Refused(
                f"{self._home.netloc} sends us for a token to {server.netloc}: its password does not go there. If that "
                f"server is yours, add an entry for {server.netloc} to {self._path}"
            )
        url = realm.partition("#")[0]
        # The scope is what we need, not what the challenge says: a token is never good for more than that.
        for name, value in (("service", parameters.get("service", "")), ("scope", scope)):
            url = with_query(url, name, value) if value else url
        response = self._connections.send("GET", url, {"Authorization": login.basic} if login else {})
        if response.status != 200:
            raise answers.failure(response, "a token", server, self._clock.wall_ns() / 1e9)
        data = answers.read_document(response, "a token", server, self._clock, bytes_max=limits.http_token_bytes_max)
        return self._keep(scope, _decode(data, server))

    def _keep(self, scope: str, answer: _Answer) -> str:
        header = f"Bearer {answer.token or answer.access_token}"
        seconds = min(max(answer.expires_in, 0), limits.http_token_s_max)
        while len(self._tokens) >= limits.http_tokens_max:
            self._tokens.pop(next(iter(self._tokens)))
        # A tenth before its time: it is checked over there, by another clock, and after a transfer.
        self._tokens[scope] = _Kept(header, self._clock.monotonic_ns() + seconds * 900_000_000)
        return header

    def _login(self, server: Origin) -> Login | None:
        login = credentials.find(self._path, server.netloc)
        for origin in (server, self._home):
            if login is not None and not origin.keeps_secrets:
                raise Refused(f"{origin.url} is not encrypted: no password and no token goes there. Use https")
        return login


def _decode(data: bytes, server: Origin) -> _Answer:
    try:
        answer = msgspec.json.decode(data, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed(f"{server.netloc}: what it gave out is no token") from None
    token = answer.token or answer.access_token
    if len(token) > limits.http_header_chars_max or not _TOKEN.fullmatch(token):
        raise Malformed(f"{server.netloc}: what it gave out is no token")
    return answer
