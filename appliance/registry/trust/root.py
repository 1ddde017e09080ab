"""The root of trust: what a root.json says, whether it continues the one that is installed, and where that is kept.

The installed root is the anchor that a person has seen the fingerprints of. Later roots follow from it by signatures and
are kept beside the other metadata, in a folder that is named after the anchor: another anchor begins with empty hands.
"""

import contextlib
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Key, Metadata, Root

from appliance import events, limits
from appliance.osutil import bounded, durable
from appliance.registry.trust.failures import BadRoot, NoRoot
from appliance.store.aside import keep_aside

_log = logging.getLogger(__name__)

_CHAIN_CHARS = 16


class RoleKeys(NamedTuple):
    """Whose signatures make a role's metadata: ``threshold`` of the keys with these fingerprints."""

    name: str
    threshold: int
    fingerprints: tuple[str, ...]


class RootFacts(NamedTuple):
    """What a person compares before trusting. ``sha256``: of the file; ``expires_s``: Unix time."""

    version: int
    expires_s: int
    sha256: str
    roles: tuple[RoleKeys, ...]


class Anchor(NamedTuple):
    """The installed root. ``chain`` names what follows from it."""

    data: bytes
    facts: RootFacts
    chain: str


def inspect(data: bytes) -> RootFacts:
    """The facts of a root that is signed by its own keys. Raises BadRoot."""
    root = parse(data)
    if not root.signed.consistent_snapshot:
        raise BadRoot(
            "the root has no consistent snapshots, which boxes and mirrors need: make it with `appliance publish`"
        )
    roles = []
    for name, role in sorted(root.signed.roles.items()):
        prints = tuple(sorted({fingerprint(root.signed.keys[keyid]) for keyid in role.keyids}))
        if len(prints) < role.threshold:
            raise BadRoot(
                f"the root's role {name} wants {role.threshold} signatures and has {len(prints)} different keys"
            )
        roles.append(RoleKeys(name, role.threshold, prints))
    expires_s = int(root.signed.expires.timestamp())
    return RootFacts(root.signed.version, expires_s, hashlib.sha256(data).hexdigest(), tuple(roles))


def parse(data: bytes) -> Metadata[Root]:
    """A root that is signed by its own keys; so far nothing says that they are those of anybody. Raises BadRoot."""
    if len(data) > limits.tuf_root_bytes_max:
        raise BadRoot(f"{len(data)} bytes, at most {limits.tuf_root_bytes_max} are a root")
    try:
        root: Metadata[Root] = Metadata.from_bytes(data)
        if root.signed.type != Root.type:
            raise BadRoot(f"these are metadata of the type {root.signed.type}, not a root")
        root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    except (RepositoryError, ValueError, KeyError) as error:
        raise BadRoot(f"this is no root of trust that is signed by its own keys: {str(error)[:200]}") from None
    return root


def fingerprint(key: Key) -> str:
    """The key id as TUF computes it (clause 4.2), of the key itself: the id that a file gives a key may lie."""
    canonical = encode_canonical({"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval})
    return hashlib.sha256((canonical or "").encode()).hexdigest()


def relation(known: Sequence[bytes], data: bytes) -> str:
    """How a root relates to the roots of the installed chain: "same" as one of them, their "next", or an "other".

    ``known`` is not empty. Raises BadRoot.
    """
    root = parse(data)
    roots = [parse(each) for each in known]
    if any(each.signed_bytes == root.signed_bytes for each in roots):
        return "same"
    newest = max(roots, key=lambda each: each.signed.version)
    if root.signed.version != newest.signed.version + 1:
        return "other"
    try:
        newest.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    except (RepositoryError, ValueError):
        return "other"
    return "next"


class RootStore:
    """The anchor in ``folder``, in two copies: it can come back from nowhere else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = (folder / "root.json", folder / "root.copy.json")

    def installed(self) -> Anchor:
        """Raises NoRoot, OSError."""
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                try:
                    return _anchor(bounded.read(path, limits.tuf_root_bytes_max))
                except BadRoot as error:
                    _log.warning(
                        "%s is corrupt (%s) and set aside; its copy counts",
                        path,
                        error,
                        extra=events.TRUST_SET_ASIDE.of(),
                    )
                    keep_aside(path)
        raise NoRoot("no root of trust is installed: `appliance registry trust ROOT.json` installs the publisher's")

    def put(self, data: bytes) -> Anchor:
        """Makes this the anchor, whatever was before. Raises BadRoot, OSError."""
        anchor = _anchor(data)
        # The second copy first: it must never be the old one when the new one counts.
        for path in reversed(self._paths):
            if not _holds(path, data):
                durable.write(path, data, point="trust.root")
        return anchor

    def chain_folder(self, anchor: Anchor) -> Path:
        """Where all that follows from the anchor is."""
        return self._folder / f"chain.{anchor.chain}"

    def sweep(self, anchor: Anchor) -> None:
        """Removes what followed from earlier anchors, and what a kill left half-written. Raises OSError."""
        for path in self._folder.glob("chain.*"):
            if path != self.chain_folder(anchor) and path.is_dir() and not path.is_symlink():
                durable.remove_tree(path)
        for path in [path for path in self._folder.rglob("*") if durable.is_temp(path.name)]:
            path.unlink()


def _anchor(data: bytes) -> Anchor:
    chain = hashlib.sha256(parse(data).signed_bytes).hexdigest()[:_CHAIN_CHARS]
    return Anchor(data, inspect(data), chain)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return bounded.read(path, len(data)) == data
    except OSError:
        return False
