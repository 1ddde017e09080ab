"""How a release reaches the boxes in waves: shares of them, and from when on."""

import itertools
from collections.abc import Sequence

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.registry.release import Wave

_HOURS_MAX = 24.0 * 365


def plan(percents: Sequence[float], hours: float, start_s: int) -> tuple[Wave, ...]:
    """A wave for each share, ``hours`` apart, the first one at once; none: everybody at once.

    Shares are whole: canonical JSON, which TUF signs, has no fractions. Raises InvalidArgument WAVES unless they rise to
    100: what stays below would never reach the rest.
    """
    if not percents:
        return ()
    if len(percents) > limits.publish_waves_max:
        raise _bad(f"{len(percents)} waves, at most {limits.publish_waves_max} are allowed")
    if not all(0 < percent <= 100 for percent in percents):
        raise _bad("a share is more than 0 and at most 100 percent")
    if any(percent != int(percent) for percent in percents):
        raise _bad("shares are whole percents")
    if any(later <= earlier for earlier, later in itertools.pairwise(percents)):
        raise _bad("each share must be larger than the one before it")
    if percents[-1] != 100:
        raise _bad("the last wave must be 100, or the other boxes would never get the release")
    if not 0 < hours <= _HOURS_MAX:
        raise _bad(f"{hours:g} hours between waves; more than 0 and at most {_HOURS_MAX:g} are allowed")
    return tuple(Wave(int(percent), start_s + round(index * hours * 3600)) for index, percent in enumerate(percents))


def parse(text: str) -> tuple[float, ...]:
    """``1,5,25,100`` as numbers. Raises InvalidArgument WAVES."""
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise _bad(f"{text[:100]!r}: shares in percent, with commas between, as in 1,5,25,100") from None


def _bad(problem: str) -> InvalidArgument:
    return InvalidArgument(f"waves: {problem}", reason="WAVES")
