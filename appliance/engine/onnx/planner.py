"""What to run next: a decision, apart from doing it.

Calls wait in order of priority, then arrival. A run takes the first of them and whatever may go with it: calls of the
same bucket (batch_axes.py makes buckets), at most one of each sequence, until the rows are as many as allowed. What
arrived while the last run went on is so the next batch. Where the model's owner allows a wait for company, a batch
waits until it is full, has a preferred size, or time is up; a later bucket that is ready runs meanwhile.

Of two calls of one bucket and priority the earlier one never runs later; the same for calls of one sequence.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from appliance import limits
from appliance.engine.arrays import Array
from appliance.engine.base import Reply
from appliance.engine.onnx.codec import OutputPlan


class Ticket(Protocol):
    """A call's place in its sequence (sequences.py). Ends with ``keep`` or ``drop``."""

    @property
    def key(self) -> Hashable:
        """The same for all calls of one sequence."""
        ...

    def states(self) -> Mapping[str, Array]:
        """State input -> array, as the call before left it. Raises ApplianceError when the sequence is gone."""
        ...

    def keep(self, outputs: Mapping[str, Array]) -> None:
        """State output -> this call's rows of it. Raises ApplianceError when they can't be kept: the call failed."""
        ...

    def drop(self) -> None:
        """The call ended without a run that succeeded."""
        ...


class Waiting:
    """A call that passed its checks. ``deadline_ns`` on CLOCK_MONOTONIC, 0: none. ``bucket`` None: it runs alone."""

    __slots__ = (
        "arrived_ns",
        "bucket",
        "deadline_ns",
        "feed",
        "nbytes",
        "number",
        "outputs",
        "priority",
        "reply",
        "rows",
        "ticket",
    )

    def __init__(
        self,
        feed: dict[str, Array],
        outputs: OutputPlan,
        reply: Reply,
        deadline_ns: int = 0,
        rows: int = 1,
        bucket: Hashable = None,
        nbytes: int = 0,
        priority: int = 0,
        ticket: Ticket | None = None,
    ) -> None:
        self.feed = feed
        self.outputs = outputs
        self.reply = reply
        self.deadline_ns = deadline_ns
        self.rows = rows
        self.bucket = bucket
        self.nbytes = nbytes
        self.priority = priority or limits.priority_default
        self.ticket = ticket
        self.arrived_ns = reply.arrived_ns
        self.number = 0  # the order of arrival; the queue gives it


class BatchRules(NamedTuple):
    """How large a batch may be and how long it may wait for its last row. ``preferred`` sizes in ascending order."""

    rows_max: int = 1
    wait_ns: int = 0
    preferred: tuple[int, ...] = ()


ONE_BY_ONE = BatchRules()


class _Group:
    """Calls that may go together, the first ones of their bucket."""

    __slots__ = ("calls", "cut", "full", "nbytes", "rows", "until_ns")

    def __init__(self, until_ns: int) -> None:
        self.calls: list[Waiting] = []
        self.rows = 0
        self.nbytes = 0
        self.full = False
        self.cut = 0  # so many calls have a preferred size
        self.until_ns = until_ns

    def offer(self, call: Waiting, rules: BatchRules, run_ns: int) -> None:
        """Takes the call unless that makes the batch too large: then it is full, for smaller ones behind it, too."""
        if self.full:
            return
        rows, nbytes = self.rows + call.rows, self.nbytes + call.nbytes
        if self.calls and (rows > rules.rows_max or nbytes > limits.batch_bytes_max):
            self.full = True
            return
        self.calls.append(call)
        self.rows, self.nbytes = rows, nbytes
        self.full = call.bucket is None or rows >= rules.rows_max
        if rows in rules.preferred:
            self.cut = len(self.calls)
        self.until_ns = min(self.until_ns, call.arrived_ns + rules.wait_ns)
        if call.deadline_ns:
            self.until_ns = min(self.until_ns, call.deadline_ns - run_ns)

    def ready(self, rules: BatchRules, now_ns: int) -> bool:
        """Whether there is nothing to wait for."""
        if self.full or now_ns >= self.until_ns:
            return True
        return bool(rules.preferred) and self.rows >= rules.preferred[0]


_FOREVER_NS = 2**63


def choose(calls: Sequence[Waiting], rules: BatchRules, now_ns: int, run_ns: int = 0) -> tuple[list[Waiting], int]:
    """Which of ``calls``, in their order, to run now; and when that is none, until when to wait for company.

    ``run_ns``: how long a run takes, so that waiting ends before a deadline can't be met any more.
    """
    if not rules.wait_ns:
        return _at_once(calls, rules), 0
    groups: dict[Hashable, _Group] = {}
    sequences: set[Hashable] = set()
    first: _Group | None = None
    for call in islice(calls, limits.batch_look_ahead_max):
        if call.ticket is not None and _behind(call.ticket, sequences):
            continue
        bucket = call if call.bucket is None else call.bucket
        group = groups.get(bucket)
        if group is None:
            group = groups[bucket] = _Group(_FOREVER_NS)
            first = first or group
        group.offer(call, rules, run_ns)
        if first is not None and first.full:
            break
    for group in groups.values():
        if group.ready(rules, now_ns):
            return group.calls[: group.cut] if group.cut else group.calls, 0
    return [], min((group.until_ns for group in groups.values()), default=0)


def _at_once(calls: Sequence[Waiting], rules: BatchRules) -> list[Waiting]:
    """The same where nothing waits for company: the bucket of the first call. In one loop, for it runs at every step."""
    head = calls[0]
    bucket, rows, nbytes = head.bucket, head.rows, head.nbytes
    run, preferred, rows_max = [head], rules.preferred, rules.rows_max
    if bucket is None or rows >= rows_max or len(calls) == 1:
        return run
    cut = 1 if rows in preferred else 0
    sequences: set[Hashable] = set() if head.ticket is None else {head.ticket.key}
    for call in islice(calls, 1, limits.batch_look_ahead_max):
        if call.ticket is not None and _behind(call.ticket, sequences):
            continue
        if call.bucket != bucket:
            continue
        rows += call.rows
        nbytes += call.nbytes
        if rows > rows_max or nbytes > limits.batch_bytes_max:
            break
        run.append(call)
        if rows in preferred:
            cut = len(run)
        if rows == rows_max:
            break
    return run[:cut] if cut else run


def _behind(ticket: Ticket, sequences: set[Hashable]) -> bool:
    """Whether an earlier call of its sequence is still in the way; notes that this one is, for later ones."""
    key = ticket.key
    if key in sequences:
        return True
    sequences.add(key)
    return False
