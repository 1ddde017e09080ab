"""The last comparison of each model, in STATE/comparisons.json: what it showed outlives the daemon."""

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from appliance import events, limits
from appliance.comparison import Comparison
from appliance.osutil import bounded, durable

_log = logging.getLogger(__name__)
_NAME = "comparisons.json"


def read(state: Path) -> list[Comparison]:
    """All that are known; a file that is none is set aside, and nothing is known."""
    path = state / _NAME
    try:
        data = bounded.read(path, limits.comparisons_bytes_max)
        return msgspec.json.decode(data, type=list[Comparison])[-limits.comparisons_kept :]
    except FileNotFoundError:
        return []
    except ValueError as error:  # too large is one, too
        _log.warning(
            "%s is no list of comparisons (%s): it is set aside", _NAME, error, extra=events.RECORD_SET_ASIDE.of()
        )
        try:
            durable.set_aside(path)
        except OSError as failure:
            _log.warning("%s can't be set aside: %s", _NAME, failure.strerror, extra=events.RECORD_NOT_KEPT.of())
        return []
    except OSError as error:
        _log.warning(
            "comparisons of earlier runs can't be read: %s", error.strerror, extra=events.RECORD_SET_ASIDE.of()
        )
        return []


def write(state: Path, comparisons: Iterable[Comparison]) -> None:
    """The newest of them. Raises OSError."""
    kept = sorted(comparisons, key=lambda c: c.began_ms)[-limits.comparisons_kept :]
    durable.write(state / _NAME, msgspec.json.encode(kept), point="comparisons")
