"""A Source over HTTP: the pull half of OCI distribution-spec 1.1."""

import functools
import re
from collections.abc import Sequence

import msgspec
import urllib3

from appliance import limits
from appliance.registry.http import answers
from appliance.registry.http.options import HttpOptions, Means
from appliance.registry.http.session import Session
from appliance.registry.http.stream import HttpBlob
from appliance.registry.http.urls import blob_path, follow, manifest_path, origin_of, repository_path
from appliance.registry.sources.base import Fetched
from appliance.registry.sources.failures import Absent, Malformed
from appliance.store.manifest import MANIFEST_TYPE, digest_of, is_digest

_ACCEPT = f"{MANIFEST_TYPE}, application/vnd.oci.image.index.v1+json"
# RFC 8288, as distribution-spec's "Listing Tags" uses it.
_NEXT = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?')


class _Tags(msgspec.Struct, frozen=True):
    # distribution answers null for a repository whose tags are all gone.
    tags: list[str] | None = None


class HttpSource:
    """A registry. Keeps connections and tokens; several threads may fetch from it."""

    def __init__(self, options: HttpOptions, means: Means = Means()) -> None:  # noqa: B008 - immutable
        self._session = Session(options, means)
        self.name = self._session.name

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        """As base.Source. ``validator`` is the ETag of the earlier answer."""
        return self._session.trying(lambda: self._manifest(repository, reference, bytes_max, validator))

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> HttpBlob:
        """As base.Source."""
        if offset < 0 or (length is not None and length < 1):
            raise ValueError(f"a blob's bytes from {offset} on, {length} of them")
        return self._session.trying(lambda: self._blob(repository, digest, offset, length, validator))

    def tags(self, repository: str) -> Sequence[str]:
        """As base.Source, page by page. Raises Malformed for a list without an end."""
        url = f"{repository_path(repository)}/tags/list"
        found: list[str] = []
        for _ in range(limits.http_tags_pages_max):
            try:
                names, url = self._session.trying(functools.partial(self._tags, repository, url))
            except Absent:
                return found
            found += names
            if not url:
                return found
            if len(found) > limits.http_tags_max:
                break
        raise Malformed(
            f"{self.name}: {repository} has more than {limits.http_tags_max} tags, or their list has no end"
        )

    def close(self) -> None:
        """Closes the connections that are kept open."""
        self._session.close()

    def _manifest(self, repository: str, reference: str, bytes_max: int, validator: str) -> Fetched | None:
        what = f"manifest {repository}:{reference}"
        headers = {"Accept": _ACCEPT}
        expect: tuple[int, ...] = (200,)
        if answers.is_validator(validator):
            headers["If-None-Match"] = validator
            expect = (200, 304)
        path, scope = manifest_path(repository, reference), pull_scope(repository)
        response = self._session.ask("GET", path, scope=scope, what=what, expect=expect, headers=headers)
        if response.status == 304:
            answers.discard(response)
            return None
        origin, clock = self._session.origin, self._session.clock
        data = answers.read_document(response, what, origin, clock, bytes_max=bytes_max)
        digest = digest_of(data)
        if is_digest(reference) and digest != reference:
            raise Malformed(f"{self.name}: what came as {what} has the digest {digest}")
        return Fetched(data, digest, answers.media_type(response.headers), answers.validator(response.headers))

    def _blob(self, repository: str, digest: str, offset: int, length: int | None, validator: str) -> HttpBlob:
        headers: dict[str, str] = {}
        if offset or length is not None:
            headers["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
            if offset and answers.is_validator(validator):
                headers["If-Range"] = validator
        path, scope, what = blob_path(repository, digest), pull_scope(repository), f"blob {digest}"
        expect = (200, 206, 416) if headers else (200,)
        response = self._session.ask("GET", path, scope=scope, what=what, expect=expect, headers=headers)
        if response.status == 416:
            # What the caller has is not the beginning of this blob, or all of it: the whole shows which.
            answers.discard(response)
            response = self._session.ask("GET", path, scope=scope, what=what, expect=(200,))
        return self._stream(response, offset, length)

    def _stream(self, response: urllib3.BaseHTTPResponse, offset: int, length: int | None) -> HttpBlob:
        tag = answers.validator(response.headers)
        if response.status == 200:
            return HttpBlob(self._session, response, 0, None, tag)
        try:
            announced = answers.ranged_length(response.headers, offset, length)
        except Malformed:
            response.close()
            raise
        return HttpBlob(self._session, response, offset, announced, tag)

    def _tags(self, repository: str, url: str) -> tuple[list[str], str]:
        what = f"tags of {repository}"
        response = self._session.ask("GET", url, scope=pull_scope(repository), what=what, expect=(200,))
        origin, clock = self._session.origin, self._session.clock
        data = answers.read_document(response, what, origin, clock, bytes_max=limits.http_tags_page_bytes_max)
        try:
            names = msgspec.json.decode(data, type=_Tags).tags or []
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Malformed(f"{self.name}: {what}: no list of tags") from None
        return names, self._next(response, repository)

    def _next(self, response: urllib3.BaseHTTPResponse, repository: str) -> str:
        found = _NEXT.search(answers.header(response.headers, "Link"))
        if found is None:
            return ""
        path = f"{repository_path(repository)}/tags/list"
        url = follow(self._session.origin.url + path, found[1])
        if origin_of(url) != self._session.origin:
            raise Malformed(f"{self.name}: the rest of the tags of {repository} is said to be at another server")
        # Of where it points only the place in the list counts.
        return f"{path}?{url.partition('?')[2]}"


def pull_scope(repository: str) -> str:
    """What a token for reading must be good for (distribution's token scopes)."""
    return f"repository:{repository}:pull"
