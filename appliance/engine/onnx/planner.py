"""What to run next: a decision, apart from doing it. One call at a time, in order of arrival; batching belongs here."""

from collections import deque

from appliance.engine.arrays import Array
from appliance.engine.base import Reply
from appliance.engine.onnx.codec import OutputPlan


class Waiting:
    """A call that passed its checks. ``deadline_ns`` on CLOCK_MONOTONIC, 0: none."""

    __slots__ = ("deadline_ns", "feed", "outputs", "reply", "rows")

    def __init__(self, feed: dict[str, Array], outputs: OutputPlan, reply: Reply, deadline_ns: int, rows: int) -> None:
        self.feed = feed
        self.outputs = outputs
        self.reply = reply
        self.deadline_ns = deadline_ns
        self.rows = rows


class Plan:
    """``run`` goes into the next execution (nothing when empty); the others end without one."""

    __slots__ = ("cancelled", "expired", "run")

    def __init__(self) -> None:
        self.run: list[Waiting] = []
        self.expired: list[Waiting] = []
        self.cancelled: list[Waiting] = []


def next_plan(queue: deque[Waiting], now_ns: int) -> Plan:
    """Takes from the head of ``queue`` what the next step is to deal with."""
    plan = Plan()
    while queue and not plan.run:
        call = queue.popleft()
        if call.reply.cancelled:
            plan.cancelled.append(call)
        elif 0 < call.deadline_ns <= now_ns:
            plan.expired.append(call)
        else:
            plan.run.append(call)
    return plan
