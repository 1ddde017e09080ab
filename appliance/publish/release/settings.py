"""publish.toml: what a publisher may choose. Keys, lines and releases are not in it: the signed metadata say those."""

import sys
from typing import Any

import msgspec

from appliance import semver
from appliance.errors import InvalidArgument
from appliance.publish import toml_writer
from appliance.registry_names import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "publish.toml"
_PREFIX_CHARS_MAX = 128
_DAYS_MAX = 3650.0
_THRESHOLD_MAX = 16


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ExpiryDays(_Table, frozen=True):
    """How long a new version of a role's metadata is good for, in days. An air-gapped site takes longer ones."""

    root: float = 365
    targets: float = 90
    line: float = 90
    snapshot: float = 7
    timestamp: float = 1


class Thresholds(_Table, frozen=True):
    """How many signatures a role needs, at `init` and `line add`; later the metadata say so."""

    root: int = 2
    targets: int = 1
    line: int = 1
    snapshot: int = 1
    timestamp: int = 1


class RegistrySettings(_Table, frozen=True):
    """Where releases go: ``url`` is https://HOST, http://HOST or the path of an OCI layout folder. Paths of PEM files."""

    url: str = ""
    ca_file: str = ""
    client_certificate_file: str = ""
    client_key_file: str = ""
    credentials_file: str = ""


class LineDefaults(_Table, frozen=True):
    """What `release` takes for a line when it isn't told otherwise."""

    channels: tuple[str, ...] = ("stable",)
    hardware: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    minimum_appliance: str = "0.0.0"


class Settings(_Table, frozen=True):
    """The whole file. ``prefix`` is where in the registry all repositories of this publisher are."""

    prefix: str
    registry: RegistrySettings = RegistrySettings()
    expiry_days: ExpiryDays = ExpiryDays()
    thresholds: Thresholds = Thresholds()
    lines: dict[str, LineDefaults] = {}

    @property
    def tuf_repository(self) -> str:
        """The repository of the metadata."""
        return f"{self.prefix}/tuf"

    def model_repository(self, line: str) -> str:
        """The repository of a line's artefacts."""
        return f"{self.prefix}/models/{line}"

    def days(self, role: str) -> float:
        """How long metadata of a role (``models.LINE`` too) last."""
        found: float = getattr(self.expiry_days, role, self.expiry_days.line)
        return found


def parse(data: bytes) -> Settings:
    """Raises InvalidArgument PUBLISH_TOML."""
    try:
        settings = msgspec.convert(tomllib.loads(data.decode("utf-8-sig")), Settings)
    except (ValueError, RecursionError) as error:
        raise _bad(str(error)) from None
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Raises InvalidArgument PUBLISH_TOML for a value out of range."""
    if len(settings.prefix) > _PREFIX_CHARS_MAX or not REPOSITORY.fullmatch(settings.prefix):
        raise _bad(
            f"prefix {settings.prefix[:200]!r}: lower-case letters and digits, between them one . or _, two _, or dashes; parts "
            "divided by /"
        )
    for name in ExpiryDays.__struct_fields__:
        days = getattr(settings.expiry_days, name)
        if not 0 < days <= _DAYS_MAX:
            raise _bad(f"expiry_days.{name}: {days} days, more than 0 and at most {_DAYS_MAX:.0f} are allowed")
    for name in Thresholds.__struct_fields__:
        threshold = getattr(settings.thresholds, name)
        if not 1 <= threshold <= _THRESHOLD_MAX:
            raise _bad(f"thresholds.{name}: {threshold}, from 1 to {_THRESHOLD_MAX} are allowed")
    for line, defaults in settings.lines.items():
        try:
            semver.check(defaults.minimum_appliance)
        except ValueError as error:
            raise _bad(f"lines.{line}.minimum_appliance: {error}") from None


def dump(settings: Settings) -> bytes:
    """The file's text, with everything that can be set."""
    document: dict[str, Any] = msgspec.to_builtins(settings)
    return toml_writer.dumps(document).encode()


def _bad(problem: str) -> InvalidArgument:
    return InvalidArgument(f"{FILE_NAME}: {problem}", reason="PUBLISH_TOML")
