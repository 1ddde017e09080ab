"""Questions to the supervisor, as the servicers see them."""

from collections.abc import Iterator
from typing import Protocol

from appliance.questions import Answer, Question


class Asks(Protocol):
    """What worker/channel.ControlChannel offers."""

    def ask(self, question: Question, timeout: float | None = None) -> Iterator[Answer]:
        """Progress and at last the answer; raises an ApplianceError."""
        ...


# What is answered out of memory must come at once.
STATUS_SECONDS_MAX = 10.0
# A load or a golden test tells how far it is, so this much silence means that something is stuck.
WORK_SECONDS_MAX = 900.0
