"""What a publisher can do to its repository, one function each; all of them end in Publisher.apply or a commit."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from appliance import limits
from appliance.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from appliance.publish.release import chunks, fetch, keys, push, release_plan, repository, roles, upload, waves
from appliance.publish.release.publisher import Outcome, Publisher
from appliance.publish.release.repository import TOP_ROLES
from appliance.publish.release.settings import LineDefaults
from appliance.publish.release.upload import Registry
from appliance.registry import release as releases
from appliance.registry.release import Release
from appliance.registry.sources.failures import Absent

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey


_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_WORD_CHARS_MAX = 64


class Terms(NamedTuple):
    """Who gets a release, and when; what is None is as publish.toml says for the line."""

    channels: tuple[str, ...] | None = None
    hardware: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    minimum_appliance: str | None = None
    waves: tuple[float, ...] = ()
    wave_hours: float = 24.0


def init(publisher: Publisher, root_files: Sequence[Path] = (), root_keys: int = 3) -> Outcome:
    """Makes the keys that are missing, and the first metadata.

    ``root_files``: public keys of other people, among ``root_keys`` in all. Raises AlreadyExists INITIALISED.
    """
    if publisher.read() is not None or publisher.workspace.pending() is not None:
        raise AlreadyExists("this folder is initialised: see `appliance publish status`", reason="INITIALISED")
    thresholds = {role: getattr(publisher.settings.thresholds, role) for role in TOP_ROLES}
    others = [keys.read_public(path).key for path in root_files]
    if len({key.keyid for key in others}) < len(others) or len(others) > root_keys:
        raise InvalidArgument(f"root keys: {len(others)} files for {root_keys} different keys", reason="THRESHOLD")
    roles.check_keys("root", root_keys, thresholds["root"])
    by_role = {role: own_keys(publisher, role, thresholds[role]) for role in TOP_ROLES if role != "root"}
    known = {key.keyid for key in others}
    by_role["root"] = [*others, *own_keys(publisher, "root", root_keys - len(others), known)]
    return publisher.apply(None, roles.first(by_role, thresholds, publisher.expires))


def own_keys(
    publisher: Publisher, role: str, count: int, without: "set[str] | frozenset[str]" = frozenset()
) -> "list[SSlibKey]":
    """``count`` keys of a role: those that are in keys/ already, an earlier try having broken off, and new ones."""
    files = sorted(publisher.workspace.keys.glob(f"{role}.*.pub"))
    found = [key for key in (keys.read_public(path).key for path in files) if key.keyid not in without][:count]
    return [*found, *(publisher.signers.create(role) for _ in range(count - len(found)))]


def line_add(publisher: Publisher, line: str, key_files: Sequence[Path] = ()) -> Outcome:
    """Delegates a line to the given public keys, or else to new keys of this folder."""
    base = publisher.current()
    roles.check_new_line(base, line)
    threshold = publisher.settings.thresholds.line
    given = [keys.read_public(path).key for path in key_files]
    line_keys = given or own_keys(publisher, releases.role_of(line), threshold)
    return publisher.apply(base, roles.add_line(base, line, line_keys, threshold, publisher.expires))


def release(publisher: Publisher, layout: Registry, line: str, version: str, terms: Terms) -> Outcome:
    """Releases a packed version. Raises NotFound (NO_LINE, NOT_PACKED), InvalidArgument RELEASE."""
    base = publisher.current()
    made = make_release(publisher, base, layout, line, version, terms)
    try:
        change = roles.put_release(base, made, publisher.expires)
    except releases.BadRelease as error:
        raise InvalidArgument(f"{line} {version} can't be released: {error}", reason="RELEASE") from None
    return publisher.apply(base, change)


def make_release(
    publisher: Publisher, base: repository.Repository, layout: Registry, line: str, version: str, terms: Terms
) -> Release:
    """What is to be signed, out of the packed artefact, the terms and the line's defaults."""
    counter = roles.next_counter(base, line)
    planned = waves.plan(terms.waves, terms.wave_hours, publisher.now_s)
    place = publisher.settings.model_repository(line)
    found = push.find(layout.source, place, version)
    defaults = publisher.settings.lines.get(line, LineDefaults())
    chosen = {
        name: value if (value := getattr(terms, name)) is not None else getattr(defaults, name)
        for name in LineDefaults.__struct_fields__
    }
    for name in ("channels", "hardware", "regions"):
        _check_words(name, chosen[name])
    if not chosen["channels"]:
        raise InvalidArgument("a release needs a channel", reason="RELEASE")
    return Release(
        line=line,
        version=version,
        repository=place,
        digest=found.digest,
        manifest_bytes=len(found.data),
        bytes=found.bytes,
        counter=counter,
        released_s=publisher.now_s,
        waves=planned,
        licence=push.licence(layout.source, place, found),
        chunks=chunks.of(layout, place, version, found),
        **chosen,
    )


def _check_words(name: str, words: Sequence[str]) -> None:
    for word in words:
        if not _WORD.fullmatch(word) or len(word) > _WORD_CHARS_MAX or ("+" in word and name != "hardware"):
            raise InvalidArgument(
                f"{name}: {word[:100]!r}: letters, digits and . _ - are allowed"
                + (", words that are all needed joined by +" if name == "hardware" else ""),
                reason="RELEASE",
            )


def withdraw(publisher: Publisher, line: str, version: str) -> Outcome:
    """Takes a release back: boxes stop installing it, and go back from it where they are told to."""
    base = publisher.current()
    return publisher.apply(base, roles.withdraw(base, line, version, publisher.expires))


def refresh(publisher: Publisher, names: Sequence[str] = ()) -> Outcome:
    """New snapshot and timestamp, and new versions of the named roles with the same contents and a later expiry."""
    base = publisher.current()
    return publisher.apply(base, roles.renew(base, names, publisher.expires))


def rotate(publisher: Publisher, role: str, old: str = "", new_file: Path | None = None) -> Outcome:
    """Puts a new key, or the public key in ``new_file``, in place of the one whose id begins with ``old`` (the oldest).

    Raises NotFound NO_ROLE or NO_KEY.
    """
    base = publisher.current()
    keyids = [keyid for keyid in roles.role_keyids(base, role) if keyid.startswith(old.replace(" ", ""))]
    if not keyids or (old and len(keyids) > 1):
        raise NotFound(
            f"{role} has {'no key' if not keyids else 'several keys'} whose id begins with {old!r}: see `appliance "
            "publish status`",
            reason="NO_KEY",
        )
    publisher.check_free(base, {role, "root" if role in TOP_ROLES else "targets"})  # before a key is made
    new = keys.read_public(new_file).key if new_file else publisher.signers.create(role)
    return publisher.apply(base, roles.rotate(base, role, new, keyids[0], publisher.expires))


def take_over(publisher: Publisher, registry: Registry, root_file: bytes | None = None) -> bool:
    """Takes over the registry's metadata; False when they are those that are here. What was here is set aside."""
    ours = publisher.workspace.files()
    if root_file is not None and not repository.root_versions(ours):
        version = repository.parse(root_file, "the root").signed.version
        ours = {repository.file_name("root", version): root_file}
    taken = fetch.take(registry.source, publisher.settings.tuf_repository, ours)
    if taken.newer:
        publisher.workspace.commit(taken.files, replace=True)
    return taken.newer


def publish(publisher: Publisher, layout: Registry, registry: Registry) -> list[str]:
    """Everything that boxes may need: the released artefacts, then the metadata; the names of the files sent.

    Raises AlreadyExists REGISTRY_NEWER, Refused or Unreachable; the same call goes on where it broke off.
    """
    files = publisher.workspace.files()
    place = publisher.settings.tuf_repository
    remote = upload.fetch(registry.source, place, repository.TIMESTAMP)
    new = set(release_plan.names(files, remote))  # refuses before anything is sent
    base = publisher.current()
    for role, metadata in base.lines.items():
        if repository.file_name(role, metadata.signed.version) in new:
            for one in roles.released(metadata):
                _send_artefact(layout, registry, one)
                chunks.send_released(layout, registry, one)
    return upload.metadata(registry, place, files)


def _send_artefact(layout: Registry, registry: Registry, release: Release) -> None:
    """Sends a released artefact unless it is there; what this folder hasn't packed, somebody else has pushed."""
    try:
        there = registry.source.manifest(release.repository, release.version, bytes_max=limits.manifest_bytes_max)
        if there is not None and there.digest == release.digest:
            return
    except Absent:
        pass
    found = push.find(layout.source, release.repository, release.version)
    if found.digest != release.digest:
        raise FailedPrecondition(
            f"{release.line} {release.version} is released as {release.digest[:19]}, and what is packed here is "
            f"{found.digest[:19]}: pack what was released with --replace, or release what is packed",
            reason="OTHER_ARTEFACT",
        )
    push.copy(layout.source, registry.target, release.repository, release.version)


def released(base: repository.Repository, line: str) -> list[Release]:
    """A line's releases; of a line that there isn't, none."""
    metadata = base.lines.get(releases.role_of(line))
    return roles.released(metadata) if metadata else []
