"""How an engine's calls end, as their callers saw it: what probation compares (daemon/probation.py).

Engines count by their own terms; this is counted in one place for all of them, where the answers leave. Only what is the
model's own fault counts as one: a caller's bad input, full queue or short deadline says nothing about the version. Inputs
that its signature allows and on which its graph breaks are counted as well: the version before may not have broken on
them, and shares are compared. A call whose deadline passed counts with the time that it had: it would have taken at least
so long.
"""

from appliance.answers import AnyAnswer, Failure
from appliance.errors import Code
from appliance.worker.latency import bucket_of

_BROKE = "MODEL_RUN_FAILED"


class CallTally:
    """Of one engine process. Used from its one thread."""

    __slots__ = ("faults", "latency")

    def __init__(self) -> None:
        self.faults = 0
        self.latency: dict[int, int] = {}

    def ended(self, answer: AnyAnswer, elapsed_ns: int, late: bool) -> None:
        """A call ended with ``answer`` after ``elapsed_ns``; ``late``: its deadline has passed."""
        if type(answer) is not Failure:
            self.took(elapsed_ns)
        elif answer.code == Code.INTERNAL.value or answer.reason == _BROKE:
            self.faults += 1
        elif late:
            self.took(elapsed_ns)

    def took(self, elapsed_ns: int) -> None:
        """A call came to its end, or to its deadline, after so long."""
        bucket = bucket_of(elapsed_ns // 1000)
        self.latency[bucket] = self.latency.get(bucket, 0) + 1
