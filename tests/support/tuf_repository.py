"""A publisher's TUF repository in memory, honest until told otherwise, and a Source that serves it as a registry would.

Roles are ordinary python-tuf metadata that a test may bend before it is signed: ``write`` signs a role as it is,
``publish`` makes a proper new version of roles with the snapshot and timestamp that follow.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from memory_registry import MemoryBlob
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from appliance.clock import FakeClock
from appliance.registry.release import Release, encode, role_of, target_path
from appliance.registry.sources.base import Fetched
from appliance.registry.sources.failures import Absent, Unreachable
from appliance.registry.trust import carried
from appliance.store.manifest import digest_of

PREFIX = "acme"
LIFE_DAYS = {"root": 365, "targets": 90, "snapshot": 7, "timestamp": 1}
TOP = ("root", "targets", "snapshot", "timestamp")


class TufRepository:
    """``files``: what a mirror has, by name. ``signers``: who signs a role; all of its keys, unless a test takes some."""

    def __init__(self, clock: FakeClock, lines: Sequence[str] = ("press",), root_keys: int = 2) -> None:
        self.clock = clock
        self.files: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.signers: dict[str, list[CryptoSigner]] = {}
        self.roles: dict[str, Metadata[Any]] = {
            "root": Metadata(Root(consistent_snapshot=True)),
            "timestamp": Metadata(Timestamp()),
            "snapshot": Metadata(Snapshot()),
            "targets": Metadata(Targets(delegations=Delegations({}, {}))),
        }
        for role in TOP:
            self.add_keys(role, root_keys if role == "root" else 1)
        for line in lines:
            self.add_line(line)
        for role in ("root", "targets", *map(role_of, lines)):
            self.renew(role)
            self.write(role)
        self.publish_online(bump=False)

    def signed(self, role: str) -> Any:
        """The payload of a role, to be bent."""
        return self.roles[role].signed

    def delegator(self, role: str) -> Any:
        return self.signed("root" if role in TOP else "targets")

    def add_keys(self, role: str, count: int = 1) -> None:
        for _ in range(count):
            signer = CryptoSigner.generate_ed25519()
            self.signers.setdefault(role, []).append(signer)
            self.delegator(role).add_key(signer.public_key, role)
        self.threshold(role, len(self.signers[role]))

    def threshold(self, role: str, threshold: int) -> None:
        self.delegator(role).get_delegated_role(role).threshold = threshold

    def rotate(self, role: str) -> list[CryptoSigner]:
        """New keys in place of all old ones, which are returned; the delegator is not yet published."""
        old = self.signers[role]
        for signer in old:
            self.delegator(role).revoke_key(signer.public_key.keyid, role)
        self.signers[role] = []
        self.add_keys(role, len(old))
        return old

    def add_line(self, line: str, paths: Sequence[str] = ()) -> None:
        role = role_of(line)
        delegated = DelegatedRole(role, [], 1, terminating=True, paths=list(paths) or [target_path(line, "*")])
        self.signed("targets").delegations.roles[role] = delegated
        self.roles[role] = Metadata(Targets())
        self.add_keys(role)

    def release(self, line: str, version: str, manifest: bytes = b"", role: str = "", **more: Any) -> Release:
        """Adds a release to its line's metadata (or to those of ``role``), and the manifest to the registry."""
        manifest = manifest or f"manifest of {line} {version}".encode()
        place = f"{PREFIX}/models/{line}"
        known = {"bytes": 100, "counter": 1, "released_s": self.now_s() - 60, "repository": place, **more}
        release = Release(line=line, version=version, digest=digest_of(manifest), manifest_bytes=len(manifest), **known)
        path = target_path(line, version)
        hashes = {"sha256": release.digest.removeprefix("sha256:")}
        target = TargetFile(len(manifest), hashes, path, {"custom": encode(release)})
        self.signed(role or role_of(line)).targets[path] = target
        self.manifests[release.repository, release.digest] = manifest
        return release

    def now_s(self) -> int:
        return self.clock.wall_ns() // 1_000_000_000

    def renew(self, role: str, days: float = 0) -> None:
        """A new expiry from now on."""
        life = timedelta(days=days or LIFE_DAYS.get(role, 90))
        self.signed(role).expires = datetime.fromtimestamp(self.now_s(), timezone.utc) + life

    def data(self, role: str, signers: Sequence[CryptoSigner] | None = None) -> bytes:
        """The role as it is, signed by ``signers``."""
        metadata = self.roles[role]
        metadata.signatures.clear()
        for signer in self.signers[role] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def write(self, role: str, signers: Sequence[CryptoSigner] | None = None) -> bytes:
        """Signs the role and puts it where boxes look."""
        data = self.data(role, signers)
        self.files[f"{role}.json" if role == "timestamp" else f"{self.signed(role).version}.{role}.json"] = data
        return data

    def publish(self, *roles: str, signers: dict[str, Sequence[CryptoSigner]] | None = None) -> None:
        """New versions of ``roles``, then of snapshot and timestamp."""
        for role in roles:
            self.signed(role).version += 1
            self.renew(role)
            self.write(role, (signers or {}).get(role))
        self.publish_online()

    def publish_root(self, old: Sequence[CryptoSigner] = ()) -> None:
        """A new root, signed by the keys before it as well."""
        self.signed("root").version += 1
        self.renew("root")
        self.write("root", [*old, *self.signers["root"]])

    def publish_online(self, *, bump: bool = True) -> None:
        """A snapshot of all targets roles as they are, and a timestamp."""
        if bump:
            self.signed("snapshot").version += 1
            self.signed("timestamp").version += 1
        self.renew("snapshot")
        self.renew("timestamp")
        meta = {}
        for role in self.roles:
            if role not in ("root", "snapshot", "timestamp"):
                version = self.signed(role).version
                meta[f"{role}.json"] = MetaFile.from_data(version, self.files[f"{version}.{role}.json"], ["sha256"])
        self.signed("snapshot").meta = meta
        self.point_timestamp(self.write("snapshot"))
        self.write("timestamp")

    def point_timestamp(self, snapshot: bytes) -> None:
        """Makes the (still unsigned) timestamp name this snapshot."""
        version = self.signed("snapshot").version
        self.signed("timestamp").snapshot_meta = MetaFile.from_data(version, snapshot, ["sha256"])


class TufSource:
    """Serves a repository's files as OCI artefacts. ``asked``: every request; ``sent``: body bytes of them.

    ``manifests`` replaces what a tag answers with; ``down``: nothing can be reached.
    """

    name = "registry.example"

    def __init__(self, repository: TufRepository) -> None:
        self.repository = repository
        self.asked: list[str] = []
        self.sent = 0
        self.manifests: dict[str, bytes] = {}
        self.down = False

    def manifest(self, repository: str, reference: str, *, bytes_max: int, validator: str = "") -> Fetched | None:
        self._ask(f"{repository}:{reference}")
        data = self._manifest(repository, reference)
        assert len(data) <= bytes_max, "a source refuses what is larger, with Malformed"
        if validator and validator == digest_of(data):
            return None
        self.sent += len(data)
        return Fetched(data, digest_of(data), "", digest_of(data))

    def _manifest(self, repository: str, reference: str) -> bytes:
        if reference in self.manifests:
            return self.manifests[reference]
        if repository == f"{PREFIX}/tuf" and reference in self.repository.files:
            return carried.encode(reference, self.repository.files[reference]).manifest
        if (repository, reference) in self.repository.manifests:
            return self.repository.manifests[repository, reference]
        raise Absent(f"no {reference} in {repository}")

    def blob(
        self, repository: str, digest: str, *, offset: int = 0, length: int | None = None, validator: str = ""
    ) -> MemoryBlob:
        self._ask(f"{repository}@{digest}")
        for data in self.repository.files.values():
            if digest_of(data) == digest:
                self.sent += len(data)
                return MemoryBlob(data, offset)
        raise Absent(f"no {digest} in {repository}")

    def tags(self, repository: str) -> Sequence[str]:
        return list(self.repository.files)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise Unreachable("the registry is away")
