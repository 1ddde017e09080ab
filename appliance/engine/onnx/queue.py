"""The calls that wait for a model: who is in, in which order, and who left.

Nobody starves: while calls of several priorities wait, every ``limits.overtaken_runs_max`` + 1st run begins with the
oldest call of all. So a call with k older ones before it waits for at most (k + 1) times as many runs.
"""

from bisect import insort
from collections.abc import Hashable, Sequence
from itertools import islice

from appliance import limits
from appliance.engine.onnx.planner import ONE_BY_ONE, BatchRules, Waiting, choose


class Plan:
    """``run`` goes into one execution (nothing when empty, at the latest until ``wait_until_ns``); the others end."""

    __slots__ = ("cancelled", "expired", "run", "wait_until_ns")

    def __init__(self) -> None:
        self.run: list[Waiting] = []
        self.expired: list[Waiting] = []
        self.cancelled: list[Waiting] = []
        self.wait_until_ns = 0


class Queue:
    """The calls that wait, in order of priority and then arrival."""

    def __init__(self, rules: BatchRules = ONE_BY_ONE) -> None:
        self.rules = rules
        self.calls: list[Waiting] = []
        self._numbers = 0
        self._overtaken = 0
        self._deadline_ns = 0  # none of those that wait is earlier; 0: none has one
        self._sequences: dict[Hashable, _Sequence] = {}
        self._gone: list[Waiting] = []

    def __len__(self) -> int:
        return len(self.calls)

    def add(self, call: Waiting) -> None:
        """A call that has just arrived. One whose sequence waits already does not come before that."""
        self._numbers += 1
        call.number = self._numbers
        if call.ticket is not None:
            self._sequences.setdefault(call.ticket.key, _Sequence()).join(call)
        self._insert(call)

    def put_back(self, calls: Sequence[Waiting]) -> None:
        """Calls of a batch that failed: each runs alone, in the place that it had."""
        for call in calls:
            call.bucket = None
            if call.ticket is not None:
                self._sequences.setdefault(call.ticket.key, _Sequence()).count(call)
            self._insert(call)

    def _insert(self, call: Waiting) -> None:
        calls = self.calls
        if call.deadline_ns and not 0 < self._deadline_ns <= call.deadline_ns:
            self._deadline_ns = call.deadline_ns
        if not calls or _order(calls[-1]) <= _order(call):
            calls.append(call)
        else:
            insort(calls, call, key=_order)

    def drop_cancelled(self) -> bool:
        """Makes room: whether there was any call that nobody waits for. The next plan tells which."""
        gone = [call for call in self.calls if call.reply.cancelled]
        self._remove(gone)
        self._gone += gone
        return bool(gone)

    def next(self, now_ns: int, run_ns: int = 0) -> Plan:
        """Takes out of the queue what the next step is to deal with."""
        plan = Plan()
        if self._gone:
            plan.cancelled, self._gone = self._gone, []
        if 0 < self._deadline_ns <= now_ns:
            plan.expired = [call for call in self.calls if 0 < call.deadline_ns <= now_ns]
            self._remove(plan.expired)
            self._deadline_ns = min((c.deadline_ns for c in self.calls if c.deadline_ns), default=0)
        calls = self.calls
        if len(calls) == 1 and not self.rules.wait_ns and not calls[0].reply.cancelled:
            plan.run = [calls[0]]  # the whole of what follows, for the most frequent case
            self._overtaken = 0
            self._remove(plan.run)
            return plan
        while self.calls:
            oldest = self._must_be_first()
            calls = [oldest, *(c for c in self.calls if c is not oldest)] if oldest is not None else self.calls
            run, plan.wait_until_ns = choose(calls, self.rules, now_ns, run_ns)
            gone = [call for call in run if call.reply.cancelled]
            if gone:
                self._remove(gone)
                plan.cancelled += gone
                continue
            if run:
                self._count(run)
                self._remove(run)
                plan.run = run
            break
        return plan

    def _must_be_first(self) -> Waiting | None:
        return min(self.calls, key=_arrival) if self._overtaken >= limits.overtaken_runs_max else None

    def _count(self, run: list[Waiting]) -> None:
        """Counts runs that passed over the oldest call."""
        calls = self.calls
        if calls[0].priority == calls[-1].priority:
            self._overtaken = 0
        else:
            self._overtaken = 0 if min(calls, key=_arrival) in run else self._overtaken + 1

    def _remove(self, gone: list[Waiting]) -> None:
        if not gone:
            return
        count, calls = len(gone), self.calls
        if calls[0] is gone[0] and calls[count - 1] is gone[-1]:  # most often: they are the first ones
            del calls[:count]
            if not self._sequences:
                return
        else:
            left_out = set(map(id, gone))
            # Only calls up to the last of them have to be looked at, and runs are made from the first ones.
            near = limits.batch_look_ahead_max
            left = [call for call in islice(calls, near) if id(call) not in left_out]
            if min(near, len(calls)) - len(left) == count:
                calls[:near] = left
            else:
                calls[:] = [call for call in calls if id(call) not in left_out]
        for call in gone:
            if call.ticket is not None:
                sequence = self._sequences[call.ticket.key]
                sequence.waiting -= 1
                if not sequence.waiting:
                    del self._sequences[call.ticket.key]


class _Sequence:
    """How many calls of one sequence wait, and the rank that none to come may be before."""

    __slots__ = ("priority", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.priority = 0

    def join(self, call: Waiting) -> None:
        """One more, behind those that are there."""
        call.priority = max(call.priority, self.priority)
        self.count(call)

    def count(self, call: Waiting) -> None:
        """One more, wherever its place is."""
        self.waiting += 1
        self.priority = max(call.priority, self.priority)


def _order(call: Waiting) -> tuple[int, int]:
    return call.priority, call.number


def _arrival(call: Waiting) -> int:
    return call.number
