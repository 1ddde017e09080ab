"""The publisher's word on what is stored: versions that are not released any more, told to the supervisor when that changes.

There is no way back to them; one that runs goes on, with an alarm (sync/planner.py).
"""

from collections.abc import Callable, Sequence

import msgspec

from appliance.control import Withdrawn
from appliance.questions import ModelVersion
from appliance.registry.trust.verified import Verified


class Word:
    """``send`` tells the supervisor, who knows of nothing withdrawn until it is told."""

    def __init__(self, send: Callable[[msgspec.Struct], None]) -> None:
        self._send = send
        self._told: tuple[tuple[str, str], ...] | None = None

    def tell(self, verified: Verified, stored: Sequence[ModelVersion]) -> None:
        """Sends it, unless it is what was sent last."""
        now = withdrawn(verified, stored)
        if now != self._told:
            self._told = now
            self._send(Withdrawn(now))


def withdrawn(verified: Verified, stored: Sequence[ModelVersion]) -> tuple[tuple[str, str], ...]:
    """(line, version) of what an update brought and is not among its line's releases.

    Of a line whose metadata could not be verified nothing is known. What an operator added is nobody's business.
    """
    known = set(verified.lines) - {problem.line for problem in verified.problems}
    return tuple(
        (model.name, model.version)
        for model in stored
        if model.brought and model.name in known and not verified.allows(model.name, model.version, model.digest)
    )
