"""fleet.json: the machines that headquarters has enrolled, in the publisher's folder or wherever it is told."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance import limits
from appliance.errors import FailedPrecondition
from appliance.osutil import bounded, durable
from appliance.publish.bundle.fleet import Machine

FILE_NAME = "fleet.json"
FORMAT = 1


class _File(msgspec.Struct, frozen=True):
    format: int
    machines: dict[str, Machine]


_decoder = msgspec.json.Decoder(_File)


def read(path: Path) -> dict[str, Machine]:
    """The machines by name; none where there is no file. Raises FailedPrecondition FLEET_BROKEN."""
    try:
        parsed = _decoder.decode(bounded.read(path, limits.fleet_bytes_max))
        if parsed.format != FORMAT:
            raise ValueError(f"its format is {parsed.format}, this version reads {FORMAT}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise FailedPrecondition(
            f"{path} cannot be read ({error}): restore it, or set it aside and enrol the machines anew",
            reason="FLEET_BROKEN",
        ) from None
    return parsed.machines


def write(path: Path, machines: Mapping[str, Machine]) -> None:
    """Durable when it returns. Raises FailedPrecondition FLEET_NOT_WRITTEN."""
    encoded = msgspec.json.encode(_File(FORMAT, dict(sorted(machines.items()))))
    try:
        durable.write(path, msgspec.json.format(encoded, indent=1) + b"\n", point="publish.fleet")
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror}", reason="FLEET_NOT_WRITTEN") from None
