"""Threshold signing through files: a request goes to a person, a signature file comes back.

A request is believed in nothing: its metadata are compared with the signer's own copy, and the words that it brings
must be those that come out of that comparison. All files are JSON.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from appliance import limits
from appliance.errors import FailedPrecondition, InvalidArgument, NotFound
from appliance.publish.release import describe, repository, signing
from appliance.publish.release.repository import TOP_ROLES, Repository
from appliance.publish.release.roles import Change
from appliance.publish.release.signers import Signers
from appliance.registry.release import ROLE_PREFIX

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata

_REQUEST = "inference-appliance/signing-request"
_SIGNATURES = "inference-appliance/signatures"


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    schema_version: int
    changes: list[str]
    metadata: dict[str, Any]


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: str
    keyid: str
    sig: str


class _Signatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    schema_version: int
    request: str
    signatures: list[_Signature]


class Request(NamedTuple):
    """A request that was checked. ``words``: what it changes, made here."""

    change: Change
    words: tuple[str, ...]
    identity: str


def dump(base: Repository | None, change: Change) -> bytes:
    """The request's file, with the signatures that there are."""
    words = describe.words(base, change)
    whole = _Request(_REQUEST, 1, list(words), {role: metadata.to_dict() for role, metadata in change.items()})
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def identity(change: Change) -> str:
    """What signatures are for: sha256 over all that is signed, whoever has signed it so far."""
    digest = hashlib.sha256()
    for role in sorted(change):
        payload = change[role].signed_bytes
        digest.update(f"{role} {len(payload)}\n".encode() + payload)
    return digest.hexdigest()


def read_file(path: Path) -> bytes:
    """A file from another person, bounded. Raises NotFound or InvalidArgument REQUEST."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.signing_request_bytes_max + 1)
    except OSError as error:
        raise NotFound(f"{path.name}: {error.strerror}", reason="NO_FILE") from None
    if len(data) > limits.signing_request_bytes_max:
        raise _bad(f"more than {limits.signing_request_bytes_max} bytes")
    return data


def load(base: Repository | None, data: bytes) -> Request:
    """Reads and checks a request against what is current here.

    Raises InvalidArgument REQUEST for what is no request or was changed on its way, FailedPrecondition OUT_OF_DATE when
    it doesn't follow from the metadata that are here.
    """
    whole = _decoded(data, _Request, _REQUEST)
    change = {role: _metadata(role, document) for role, document in whole.metadata.items()}
    if not change or (base is None and not {"root", "targets"} <= change.keys()):
        raise FailedPrecondition(
            "the request changes metadata that are not here: `appliance publish fetch` them first", reason="OUT_OF_DATE"
        )
    for role, metadata in change.items():
        _check_follows(base, role, metadata)
    try:
        words = describe.words(base, change)
        _keep_what_counts(base, change)
    except ValueError as error:
        raise _bad(str(error)) from None
    if list(words) != whole.changes:
        raise _bad("its words are not what it would change; it was altered, or made by another version of this program")
    return Request(change, words, identity(change))


def _metadata(role: str, document: Any) -> "Metadata[Any]":
    if role not in ("root", "targets") and not role.startswith(ROLE_PREFIX):
        raise _bad(f"{role[:100]!r} is no role that people sign")
    try:
        metadata = repository.parse(msgspec.json.encode(document), role)
    except (FailedPrecondition, msgspec.MsgspecError, TypeError) as error:
        raise _bad(str(error)) from None
    if metadata.signed.type != (role if role in TOP_ROLES else "targets"):
        raise _bad(f"the metadata of {role} are those of another role")
    metadata.unrecognized_fields = {}  # they are outside of what is signed
    return metadata


def _keep_what_counts(base: Repository | None, change: Change) -> None:
    """Drops signatures that verify with no key of the role."""
    signed = {(need.role, keyid) for need in signing.needs(base, change) for keyid in need.signed}
    for role, metadata in change.items():
        for keyid in [keyid for keyid in metadata.signatures if (role, keyid) not in signed]:
            del metadata.signatures[keyid]


def _check_follows(base: Repository | None, role: str, metadata: "Metadata[Any]") -> None:
    current = base.metadata(role) if base else None
    expected = current.signed.version + 1 if current else 1
    if metadata.signed.version != expected:
        raise FailedPrecondition(
            f"the request has version {metadata.signed.version} of {role}, and {expected} would be next here: "
            "`appliance publish fetch` the newest metadata, or ask for a new request",
            reason="OUT_OF_DATE",
        )


def sign(base: Repository | None, request: Request, signers: Signers) -> bytes:
    """The signature file with what the keys at hand add. Raises FailedPrecondition NOTHING_TO_SIGN."""
    made = signing.sign(base, request.change, signers)
    if not made:
        raise FailedPrecondition(
            "no key in keys/ is asked for by this request, or all of them have signed", reason="NOTHING_TO_SIGN"
        )
    signatures = [_Signature(role, keyid, request.change[role].signatures[keyid].signature) for role, keyid in made]
    whole = _Signatures(_SIGNATURES, 1, request.identity, signatures)
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def combine(base: Repository | None, request: Request, files: Iterable[tuple[str, bytes]]) -> None:
    """Adds the signatures of (name, bytes) to the request's metadata; one that doesn't verify refuses all of them.

    Raises InvalidArgument REQUEST, naming the file.
    """
    from securesystemslib.signer import Signature

    for name, data in files:
        whole = _decoded(data, _Signatures, _SIGNATURES, name)
        if whole.request != request.identity:
            raise _bad("its signatures are for another request", name)
        for given in whole.signatures:
            if given.role not in request.change:
                raise _bad(f"the request doesn't change {given.role[:100]}", name)
            request.change[given.role].signatures[given.keyid] = Signature(given.keyid, given.sig)
            signed = {k for need in signing.needs(base, request.change) if need.role == given.role for k in need.signed}
            if given.keyid not in signed:
                raise _bad(f"the signature of {given.role} by {given.keyid[:16]} is not one that counts", name)


def _decoded(data: bytes, kind: type[Any], schema: str, name: str = "the request") -> Any:
    try:
        whole = msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise _bad(str(error), name) from None
    if whole.schema != schema or whole.schema_version != 1:
        raise _bad(f"schema {whole.schema[:100]!r}, version {whole.schema_version}; {schema!r} was expected", name)
    return whole


def _bad(problem: str, name: str = "the request") -> InvalidArgument:
    return InvalidArgument(f"{name} can't be used: {problem}", reason="REQUEST")
