"""A Target over HTTP: the push half of OCI distribution-spec 1.1 ("POST then PUT", one upload in one piece)."""

from collections.abc import Callable, Iterable, Iterator

from appliance import limits
from appliance.registry.http import answers
from appliance.registry.http.options import HttpOptions, Means
from appliance.registry.http.session import Session
from appliance.registry.http.urls import blob_path, follow, manifest_path, repository_path, with_query
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.store.manifest import digest_of, is_digest


class HttpTarget:
    """A registry that we may write to. Keeps connections and tokens; one thread at a time."""

    def __init__(self, options: HttpOptions, means: Means = Means()) -> None:  # noqa: B008 - immutable
        self._session = Session(options, means)
        self.name = self._session.name

    def has_blob(self, repository: str, digest: str) -> bool:
        """As base.Target."""
        return self._session.trying(lambda: self._has_blob(repository, digest))

    def put_blob(self, repository: str, digest: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
        """As base.Target. Raises Malformed when ``chunks`` are not ``size`` bytes, and what they raise."""
        upload = _Upload(self._session, repository, digest, size, chunks)
        self._session.trying(upload.run)

    def put_manifest(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        """As base.Target."""
        if is_digest(reference) and digest_of(data) != reference:
            raise Malformed(f"a manifest with the digest {digest_of(data)} cannot be put as {reference}")
        self._session.trying(lambda: self._put_manifest(repository, reference, media_type, data))

    def close(self) -> None:
        """Closes the connections that are kept open."""
        self._session.close()

    def _has_blob(self, repository: str, digest: str) -> bool:
        path, scope, what = blob_path(repository, digest), push_scope(repository), f"blob {digest}"
        try:
            answers.discard(self._session.ask("HEAD", path, scope=scope, what=what, expect=(200,)))
        except Absent:
            return False
        return True

    def _put_manifest(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        path, scope = manifest_path(repository, reference), push_scope(repository)
        what = f"putting {repository}:{reference}"
        answers.discard(
            self._session.ask(
                "PUT", path, scope=scope, what=what, expect=(201,), headers=headers, body=lambda: _slices([data])
            )
        )


class _Upload:
    """One blob on its way up; ``run`` is one try."""

    def __init__(
        self, session: Session, repository: str, digest: str, size: int, chunks: Callable[[], Iterable[bytes]]
    ) -> None:
        self._session = session
        self._scope = push_scope(repository)
        self._start = f"{repository_path(repository)}/blobs/uploads/"
        self._blob = blob_path(repository, digest)
        self._digest = digest
        self._size = size
        self._chunks = chunks
        self._tried = False
        # What reading our own bytes failed with: urllib3 would take an OSError for one of the network's.
        self._own_failure: Exception | None = None

    def run(self) -> None:
        """Raises as put_blob does."""
        if self._tried and self._arrived():
            return
        self._tried = True
        self._own_failure = None
        what = f"sending blob {self._digest}"
        begun = self._session.ask(
            "POST", self._start, scope=self._scope, what=what, expect=(202,), headers={"Content-Length": "0"}
        )
        location = answers.header(begun.headers, "Location")
        answers.discard(begun)
        url = with_query(follow(self._session.origin.url + self._start, location), "digest", self._digest)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self._size)}
        # The registry hashes all of it before it answers.
        stall_s = self._session.stall_s + self._size / limits.http_commit_bytes_per_s
        try:
            done = self._session.ask(
                "PUT",
                url,
                scope=self._scope,
                what=what,
                expect=(201,),
                headers=headers,
                body=self._body,
                stall_s=stall_s,
            )
        except (Unreachable, Malformed):
            if self._own_failure is not None:
                raise self._own_failure from None
            raise
        answers.discard(done)

    def _arrived(self) -> bool:
        """Whether an earlier try got through and only its answer was lost."""
        try:
            answers.discard(
                self._session.ask("HEAD", self._blob, scope=self._scope, what=f"blob {self._digest}", expect=(200,))
            )
        except Absent:
            return False
        return True

    def _body(self) -> Iterator[bytes]:
        sent = 0
        try:
            for piece in _slices(self._chunks()):
                sent += len(piece)
                if sent > self._size:
                    break
                yield piece
            if sent != self._size:
                raise Malformed(f"the bytes of blob {self._digest} are not {self._size}")
        except Exception as error:
            self._own_failure = error
            raise


def _slices(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for at in range(0, len(chunk), limits.http_send_bytes):
            yield chunk[at : at + limits.http_send_bytes]


def push_scope(repository: str) -> str:
    """What a token for writing must be good for (distribution's token scopes)."""
    return f"repository:{repository}:pull,push"
