"""A machine's status on its way back to headquarters: what it says, how it is signed, and what is believed of such a file.

    {"format": 1, "signed": {...}, "key": HEX, "signature": HEX}

Ed25519 over a fixed prefix and the very bytes of ``signed``, so nothing needs to be written in one canonical way. The key
says which machine it was only to somebody who knows it (publish/fleet). Until ``read`` returns, a file is somebody's guess.
"""

import re
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from appliance import limits
from appliance.errors import InvalidArgument

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT = 1
FOLDER = "return"
SUFFIX = ".json"
# What this key signs is a status, and can never pass for anything else.
_PREFIX = b"inference-appliance return 1\n"
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# The end of year 9999: what a calendar can show.
_TIME_MAX = 253_402_300_799

_Text = Annotated[str, msgspec.Meta(max_length=limits.return_text_chars_max)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=limits.return_number_max)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=_TIME_MAX)]
_Versions = Annotated[tuple[_Text, ...], msgspec.Meta(max_length=limits.return_versions_max)]


class BadReturn(InvalidArgument):
    """No status of a machine, or one that was changed on its way."""

    default_reason = "RETURN_BROKEN"


class LineReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model line: what runs, what is here, what is never tried again, and how its last update ended (SyncLine)."""

    line: _Text
    active: _Text = ""
    stored: _Versions = ()
    quarantined: _Versions = ()
    wanted: _Text = ""
    state: _Text = ""
    reason: _Text = ""


class RoleReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Metadata as they are trusted there: a role, its version, until when (Unix time)."""

    role: _Text
    version: _Number
    expires_s: _Time


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """``counter`` rises with each status of a machine. ``at_s``: when it was signed, by that machine's clock.

    ``lines_left_out``: so many more lines than a status can hold.
    """

    device: _Text
    counter: _Number
    at_s: _Time
    appliance: _Text
    error: _Text = ""
    lines: Annotated[tuple[LineReport, ...], msgspec.Meta(max_length=limits.return_entries_max)] = ()
    roles: Annotated[tuple[RoleReport, ...], msgspec.Meta(max_length=limits.return_entries_max)] = ()
    alarms: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=limits.return_entries_max)] = ()
    lines_left_out: _Number = 0

    @property
    def root_version(self) -> int:
        """Of the root of trust, 0: none is installed."""
        return next((role.version for role in self.roles if role.role == "root"), 0)


class _File(msgspec.Struct, frozen=True):
    format: int
    signed: msgspec.Raw
    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    signature: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Returned(NamedTuple):
    """A status whose signature is right; ``key`` is the public key that it is right for, in hexadecimal."""

    report: Report
    key: str


_files = msgspec.json.Decoder(_File)
_reports = msgspec.json.Decoder(Report)


def is_device(name: str) -> bool:
    """Whether a machine may be called so: its status is a file of that name."""
    return _DEVICE.fullmatch(name) is not None


def file_name(device: str) -> str:
    """Where the status of a machine is in FOLDER. Raises ValueError for a name that is none."""
    if not is_device(device):
        raise ValueError(f"{device[:100]!r} cannot be a machine's name")
    return device + SUFFIX


def encode(report: Report, key: "Ed25519PrivateKey") -> bytes:
    """The signed file, of at most limits.return_bytes_max; lines that don't fit are left out and counted."""
    while True:
        signed = msgspec.json.encode(report)
        if len(signed) <= limits.return_bytes_max - 512 or not report.lines:
            break
        kept = len(report.lines) // 2
        report = msgspec.structs.replace(
            report,
            lines=report.lines[:kept],
            lines_left_out=report.lines_left_out + len(report.lines) - kept,
        )
    public = key.public_key().public_bytes_raw().hex()
    return msgspec.json.encode(_File(FORMAT, msgspec.Raw(signed), public, key.sign(_PREFIX + signed).hex())) + b"\n"


def read(data: bytes) -> Returned:
    """A status from anywhere. Raises BadReturn, with the reason RETURN_FORGED where only the signature is wrong."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(data) > limits.return_bytes_max:
        raise BadReturn(f"it has more than {limits.return_bytes_max} bytes")
    try:
        file = _files.decode(data)
        if file.format != FORMAT:
            raise ValueError(f"its format is {file.format}, this version reads {FORMAT}")
        signed = bytes(file.signed)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(file.key)).verify(
            bytes.fromhex(file.signature), _PREFIX + signed
        )
        report = _reports.decode(signed)
        if not is_device(report.device):
            raise ValueError("its device has no name that can be one")
    except InvalidSignature:
        raise BadReturn("its signature is wrong: it was changed, or never signed", reason="RETURN_FORGED") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BadReturn(f"it is no status of a machine: {str(error)[:200]}") from None
    return Returned(report, file.key)
