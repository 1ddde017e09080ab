"""Which URLs we go to: names that go into paths, where a redirect may lead, what is one and the same server."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.registry.sources.failures import Malformed
from appliance.registry_names import HOST, REPOSITORY, REPOSITORY_CHARS_MAX, VISIBLE
from appliance.store.manifest import is_digest

# distribution-spec 1.1, "Pulling manifests": <reference> as a tag.
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """One server (RFC 6454): what credentials belong to."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """As in a URL, and as a key of docker's config.json: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    @property
    def keeps_secrets(self) -> bool:
        """Whether a password may go there: encrypted, or not over a network at all."""
        if self.scheme == "https" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def registry_origin(url: str) -> Origin:
    """Of what an operator configured. Raises InvalidArgument."""
    try:
        origin, parts = _parse(url)
    except ValueError as error:
        raise InvalidArgument(f"registry {url[:200]!r}: {error}", reason="REGISTRY_URL") from None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidArgument(
            f"registry {url[:200]!r}: only https://HOST[:PORT], the rest belongs to the names of repositories",
            reason="REGISTRY_URL",
        )
    return origin


def origin_of(url: str) -> Origin:
    """Raises Malformed for what is no http(s) URL, or carries a password."""
    try:
        return _parse(url)[0]
    except ValueError as error:
        raise Malformed(f"{url[:200]!r}: {error}") from None


def follow(url: str, location: str) -> str:
    """Where a redirect, or the Location of an upload, leads. Raises Malformed for where we don't go."""
    if not location or len(location) > limits.http_url_chars_max or not VISIBLE.fullmatch(location):
        raise Malformed(f"{origin_of(url).netloc} redirects to {location[:100]!r}, which is no URL")
    try:
        target = urljoin(url, location).partition("#")[0]
    except ValueError:
        raise Malformed(f"{origin_of(url).netloc} redirects to {location[:100]!r}, which is no URL") from None
    old, new = origin_of(url), origin_of(target)
    if old.scheme == "https" and new.scheme != "https":
        raise Malformed(
            f"{old.netloc} redirects from https to {new.url}: behind a TLS proxy a registry must be told its own URL"
        )
    return target


def repository_path(repository: str) -> str:
    """``/v2/<name>``. Raises Malformed for what is no repository's name."""
    if len(repository) > REPOSITORY_CHARS_MAX or not REPOSITORY.fullmatch(repository):
        raise Malformed(f"{repository[:100]!r} is no name of a repository")
    return f"/v2/{repository}"


def manifest_path(repository: str, reference: str) -> str:
    """Of a tag or a digest. Raises Malformed."""
    if not is_digest(reference) and not _TAG.fullmatch(reference):
        raise Malformed(f"{reference[:100]!r} is neither a tag nor a sha256 digest")
    return f"{repository_path(repository)}/manifests/{reference}"


def blob_path(repository: str, digest: str) -> str:
    """Raises Malformed."""
    if not is_digest(digest):
        raise Malformed(f"{digest[:100]!r} is no sha256 digest")
    return f"{repository_path(repository)}/blobs/{digest}"


def with_query(url: str, name: str, value: str) -> str:
    """The URL with one more parameter."""
    return f"{url}{'&' if '?' in url else '?'}{name}={quote(value, safe=':/,')}"


def _parse(url: str) -> tuple[Origin, SplitResult]:
    if len(url) > limits.http_url_chars_max or not VISIBLE.fullmatch(url):
        raise ValueError("no URL")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("no http or https URL")
    if "@" in parts.netloc:
        raise ValueError("a user or a password in a URL is not taken: it would end up in logs")
    if not HOST.fullmatch(parts.hostname.lower()):
        raise ValueError("no name of a host that we take")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return Origin(parts.scheme, parts.hostname.lower(), port), parts
