"""One publisher's folder with its keys and a clock: a change is signed, and is current at once or waits for signatures."""

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from appliance.clock import Clock
from appliance.errors import AlreadyExists, ApplianceError, FailedPrecondition, NotFound
from appliance.publish.release import describe, repository, requests, signing
from appliance.publish.release.repository import Repository
from appliance.publish.release.requests import Request
from appliance.publish.release.roles import Change
from appliance.publish.release.signers import Signers
from appliance.publish.release.signing import Need
from appliance.publish.release.workspace import Workspace


class Outcome(NamedTuple):
    """``words``: what changes. Empty ``missing``: it is current; else it waits for these signatures."""

    words: tuple[str, ...]
    missing: tuple[Need, ...]

    @property
    def done(self) -> bool:
        """Whether the change is current."""
        return not self.missing


class Publisher:
    """What all operations share."""

    def __init__(self, workspace: Workspace, signers: Signers, clock: Clock) -> None:
        self.workspace = workspace
        self.settings = workspace.settings
        self.signers = signers
        self._clock = clock

    @property
    def now_s(self) -> int:
        """Unix time."""
        return self._clock.wall_ns() // 1_000_000_000

    def expires(self, role: str) -> datetime:
        """When metadata of a role that are made now expire."""
        return datetime.fromtimestamp(self.now_s, timezone.utc) + timedelta(days=self.settings.days(role))

    def read(self) -> Repository | None:
        """What is current; None before the first metadata are signed."""
        return repository.read(self.workspace.files())

    def current(self) -> Repository:
        """What is current. Raises FailedPrecondition NO_METADATA."""
        found = self.read()
        if found is None:
            raise FailedPrecondition(
                "nothing is signed in this folder yet: `appliance publish init` begins, `combine` completes it, or "
                "`fetch --root` takes over what the registry has",
                reason="NO_METADATA",
            )
        return found

    def apply(self, base: Repository | None, change: Change) -> Outcome:
        """Signs a change with the keys at hand, and makes it current or keeps it as what waits for signatures.

        Raises AlreadyExists CHANGE_WAITS when one that touches the same roles waits already.
        """
        waiting = self.check_free(base, change.keys())
        words = describe.words(base, change)
        signing.sign(base, change, self.signers)
        if missing := signing.missing(base, change):
            if waiting:
                raise AlreadyExists(
                    "another change waits for signatures: `combine` it, or `request --discard` it",
                    reason="CHANGE_WAITS",
                )
            self.workspace.put_pending(requests.dump(base, change))
            return Outcome(words, tuple(missing))
        self._commit(base, change)
        return Outcome(words, ())

    def check_free(self, base: Repository | None, names: Iterable[str]) -> bool:
        """Whether a change of other roles waits. Raises AlreadyExists CHANGE_WAITS when one of these roles does."""
        waiting = self.waiting(base)
        if waiting and (overlap := sorted(waiting.change.keys() & set(names))):
            raise AlreadyExists(
                f"a change of {', '.join(overlap)} waits for signatures: `combine` it, or `request --discard` it",
                reason="CHANGE_WAITS",
            )
        return waiting is not None

    def _commit(self, base: Repository | None, change: Change, *, drop_pending: bool = False) -> None:
        files = signing.finish(base, change, self.signers, self.expires, self.now_s)
        repository.read({**self.workspace.files(), **files})  # what can't be read again must not become current
        self.workspace.commit(files, drop_pending=drop_pending)

    def waiting(self, base: Repository | None) -> Request | None:
        """The change that waits for signatures. Raises FailedPrecondition CHANGE_STALE when others have gone past it."""
        data = self.workspace.pending()
        if data is None:
            return None
        try:
            return requests.load(base, data)
        except ApplianceError as error:
            raise FailedPrecondition(
                f"the change that waits for signatures can't be used any more ({error.message}): "
                "`appliance publish request --discard` it",
                reason="CHANGE_STALE",
            ) from None

    def request(self) -> bytes:
        """The file of the change that waits. Raises NotFound NOTHING_WAITS."""
        waiting = self.workspace.pending()
        if waiting is None:
            raise NotFound("no change waits for signatures", reason="NOTHING_WAITS")
        return waiting

    def check_request(self, data: bytes) -> Request:
        """A request from anybody, checked against what is current here."""
        return requests.load(self.read(), data)

    def sign(self, request: Request) -> bytes:
        """A signature file for a request that was checked."""
        return requests.sign(self.read(), request, self.signers)

    def combine(self, request: Request, files: list[tuple[str, bytes]]) -> Outcome:
        """Adds signatures to a request; it becomes current when all thresholds are met, else it goes on waiting."""
        base = self.read()
        waiting = self.waiting(base)
        own = waiting is not None and waiting.identity == request.identity
        if waiting and own:
            for role, metadata in waiting.change.items():
                request.change[role].signatures.update(metadata.signatures)
        requests.combine(base, request, files)
        if missing := signing.missing(base, request.change):
            if own or waiting is None:
                self.workspace.put_pending(requests.dump(base, request.change))
            return Outcome(request.words, tuple(missing))
        self._commit(base, request.change, drop_pending=own)
        return Outcome(request.words, ())
