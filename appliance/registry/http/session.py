"""Requests to one registry, as often as it takes: retries around redirects around logins around single requests."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import urllib3

from appliance import limits
from appliance.registry.http import answers, retry
from appliance.registry.http.auth import Authorizer
from appliance.registry.http.connections import Connections
from appliance.registry.http.options import HttpOptions, Means
from appliance.registry.http.urls import follow, origin_of, registry_origin
from appliance.registry.sources.failures import Malformed, Refused, Unreachable

T = TypeVar("T")
Body = Callable[[], Iterable[bytes]]

_REDIRECTS = (301, 302, 303, 307, 308)


class Session:
    """One registry's connections, logins and patience. ``name``: HOST or HOST:PORT."""

    def __init__(self, options: HttpOptions, means: Means) -> None:
        self.origin = registry_origin(options.url)
        self.name = self.origin.netloc
        self.stall_s = options.stall_s
        self.clock = means.clock
        self._means = means
        self._connections = Connections(options, self.origin)
        self._authorizer = Authorizer(self.origin, options.credentials, self._connections, means.clock)
        # Streams in a row that broke before a byte came: to the caller these are tries without a pause between them.
        self._broken = 0

    def trying(self, action: Callable[[], T]) -> T:
        """``action`` until it doesn't raise Unreachable, with pauses. Raises the last Unreachable, or what else it does."""
        if self._broken:
            self._means.sleep(retry.pause_s(min(self._broken, limits.http_tries_max - 1), 0.0, self._means.chance) or 0)
        failures = 0
        while True:
            try:
                return action()
            except Unreachable as error:
                failures += 1
                pause = retry.pause_s(failures, error.retry_after_s, self._means.chance)
                if pause is None:
                    raise
                self._means.sleep(pause)

    def stream_broke(self, *, any_bytes: bool) -> None:
        """A blob's stream ended too soon."""
        self._broken = 1 if any_bytes else self._broken + 1

    def stream_flows(self) -> None:
        """Bytes came."""
        self._broken = 0

    def ask(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        what: str,
        expect: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        stall_s: float = 0.0,
    ) -> urllib3.BaseHTTPResponse:
        """One try: an answer with one of the statuses ``expect``, its body unread. ``url``: a path, or a whole one.

        GET and HEAD follow redirects. Raises the errors of failures.py.
        """
        if url.startswith("/"):
            url = self.origin.url + url
        for _ in range(limits.http_redirects_max + 1):
            response = self._logged_in(method, url, scope, dict(headers or {}), body, stall_s)
            if response.status in expect:
                try:
                    answers.check_identity(response.headers)
                except Malformed:
                    response.close()
                    raise
                return response
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                raise answers.failure(response, what, origin_of(url), self.clock.wall_ns() / 1e9)
            location = response.headers.get("Location", "")
            answers.discard(response)
            url = follow(url, location)
        raise Malformed(f"{self.name}: {what}: more than {limits.http_redirects_max} redirects")

    def close(self) -> None:
        """Closes the connections that are kept open."""
        self._connections.close()

    def _logged_in(
        self, method: str, url: str, scope: str, headers: dict[str, str], body: Body | None, stall_s: float
    ) -> urllib3.BaseHTTPResponse:
        def send() -> urllib3.BaseHTTPResponse:
            return self._connections.send(method, url, headers, body=body() if body else None, stall_s=stall_s)

        if origin_of(url) != self.origin:
            return send()
        sent = self._authorizer.header(scope)
        for again in (False, True):
            if sent:
                headers["Authorization"] = sent
            response = send()
            if response.status != 401:
                return response
            offered = answers.header(response.headers, "WWW-Authenticate")
            answers.discard(response)
            if again and sent.startswith("Bearer "):
                break
            sent = self._authorizer.answer(offered, scope, sent)
        raise Refused(f"{self.name} does not take the token that its own realm gave us: may we do this in {scope}?")
