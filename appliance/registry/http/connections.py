"""One request and the head of its answer over urllib3, and what its errors mean. Knows no redirects, logins or retries."""

import http.client
import ssl
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError, SSLError

from appliance import limits
from appliance.credentials import exposed
from appliance.errors import ApplianceError, FailedPrecondition, InvalidArgument
from appliance.registry.http.heads import bounded
from appliance.registry.http.options import HttpOptions
from appliance.registry.http.urls import Origin, origin_of
from appliance.registry.sources.failures import Malformed, Refused, Unreachable

# What a TLS server says of a client certificate that it wants, or doesn't take (RFC 8446, 6.2).
_CLIENT_ALERTS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "HANDSHAKE_FAILURE")


_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (urllib3.exceptions.ProxyError, "the proxy does not let us through, or is not there"),
    (urllib3.exceptions.NameResolutionError, "its name cannot be resolved"),
    (urllib3.exceptions.NewConnectionError, "it takes no connection"),
    (urllib3.exceptions.ConnectTimeoutError, "no connection in time"),
    (urllib3.exceptions.ReadTimeoutError, "nothing came in time"),
    (urllib3.exceptions.SSLError, "the encrypted connection failed"),
    (urllib3.exceptions.IncompleteRead, "it sent less than it announced"),
    (ProtocolError, "the connection broke, or what came is no answer"),
)


class Connections:
    """Kept open between requests. The client certificate is shown to the registry's own server only."""

    def __init__(self, options: HttpOptions, home: Origin) -> None:
        self._options = options
        self._home = home
        # Authorities take memory: they are loaded where they are needed.
        self._at_home = _manager(options, _tls(options, with_certificate=True) if home.scheme == "https" else None)
        self._elsewhere: urllib3.PoolManager | None = None

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: bytes | Iterable[bytes] | None = None,
        stall_s: float = 0.0,
    ) -> urllib3.BaseHTTPResponse:
        """The answer, its body not yet read. ``stall_s``: another than the configured one.

        Raises Unreachable, Refused (TLS), or Malformed for what is no HTTP.
        """
        origin = origin_of(url)
        manager = self._at_home if origin == self._home else self._elsewhere_manager()
        timeout = urllib3.Timeout(connect=self._options.connect_s, read=stall_s or self._options.stall_s)
        try:
            return manager.request(
                method,
                url,
                # "identity": a compressed answer could be a hundred times its size, and a length would mean two things.
                headers={"Accept-Encoding": "identity", "User-Agent": "inference-appliance", **headers},
                body=body,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise failure_of(error, origin) from None

    def close(self) -> None:
        """Closes what is kept open."""
        self._at_home.clear()
        if self._elsewhere is not None:
            self._elsewhere.clear()

    def _elsewhere_manager(self) -> urllib3.PoolManager:
        if self._elsewhere is None:
            self._elsewhere = _manager(self._options, _tls(self._options, with_certificate=False))
        return self._elsewhere


def failure_of(error: Exception, origin: Origin) -> ApplianceError:
    """What a failure on the way means for whoever asked."""
    cause: object = error
    if isinstance(error, SSLError) and error.args:
        cause = error.args[0]
    elif isinstance(error, ProtocolError) and len(error.args) > 1:
        cause = error.args[1]
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Refused(
            f"{origin.netloc} has a certificate that is not trusted ({cause.verify_message}): is `ca` the file of its "
            "authority, and the clock right?",
            reason="REGISTRY_CERTIFICATE",
        )
    if isinstance(cause, ssl.SSLError) and any(alert in (cause.reason or "") for alert in _CLIENT_ALERTS):
        return Refused(
            f"{origin.netloc} does not take our client certificate, or wants one ({cause.reason})",
            reason="REGISTRY_CERTIFICATE",
        )
    if isinstance(cause, ValueError) and not isinstance(cause, OSError):
        return Malformed(f"{origin.netloc}: {_short(cause)}")
    if isinstance(cause, http.client.HTTPException) and not isinstance(
        cause, (ConnectionError, http.client.IncompleteRead)
    ):
        return Malformed(f"{origin.netloc} does not speak HTTP as it must: {_short(cause)}")
    return Unreachable(f"{origin.netloc} cannot be reached, or broke off: {_fault(error)}")


def _fault(error: Exception) -> str:
    """In our words: those of urllib3 show its own parts. The first that fits, from the special to the general."""
    return next((said for kind, said in _FAULTS if isinstance(error, kind)), type(error).__name__)


def _short(error: object) -> str:
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text[:300])


def _tls(options: HttpOptions, *, with_certificate: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Since Python 3.13 the default refuses authorities of the simpler kind that many sites run, as openssl makes them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if with_certificate and options.certificate:
            if options.key and (why := exposed(options.key)):
                raise FailedPrecondition(f"registry.key: {why}", reason="REGISTRY_TLS_FILES")
            # A password would be asked for on the terminal.
            context.load_cert_chain(options.certificate, options.key or None, password=lambda: "")
    except (OSError, ValueError) as error:
        raise FailedPrecondition(
            f"the TLS files of {options.url[:200]} cannot be used (ca {options.ca!r}, certificate "
            f"{options.certificate!r}, key {options.key!r}): {error}",
            reason="REGISTRY_TLS_FILES",
        ) from None
    return context


def _manager(options: HttpOptions, tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    if not options.proxy:
        return bounded(urllib3.PoolManager(num_pools=4, maxsize=limits.http_connections_max, ssl_context=tls))
    try:
        parts = urlsplit(options.proxy)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("no http or https URL")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        url = f"{parts.scheme}://{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    except ValueError as error:
        raise InvalidArgument(f"the proxy of {options.url[:200]}: {error}", reason="REGISTRY_PROXY") from None
    headers = None
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login)
    manager = urllib3.ProxyManager(
        url,
        num_pools=4,
        maxsize=limits.http_connections_max,
        proxy_headers=headers,
        ssl_context=tls,
        proxy_ssl_context=tls,
    )
    return bounded(manager)
