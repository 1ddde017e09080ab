"""What runs next: tables of single decisions, and properties of the queue over any order of events."""

import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.engine.onnx.planner import ONE_BY_ONE, BatchRules, Waiting, choose
from appliance.engine.onnx.queue import Queue

MS = 1_000_000


class Reply:
    def __init__(self, arrived_ns=0):
        self.arrived_ns = arrived_ns
        self.cancelled = False


def call(name="", rows=1, bucket=(), *, at=0, deadline=0, priority=0, key=None, nbytes=0):
    ticket = types.SimpleNamespace(key=key) if key is not None else None
    return Waiting({}, name, Reply(at), deadline, rows, bucket, nbytes, priority, ticket)


def queue_of(rules, *calls):
    queue = Queue(rules)
    for each in calls:
        queue.add(each)
    return queue


def names(calls):
    return "".join(c.outputs for c in calls)


def drained(queue, now_ns=0):
    """The runs until nothing is left; each step must take something out."""
    runs = []
    while queue:
        before = len(queue)
        plan = queue.next(now_ns)
        assert len(queue) < before
        if plan.run:
            runs.append(names(plan.run))
    return runs


A, B = ("a",), ("b",)
EIGHT = BatchRules(8)

CASES = {
    "all that is there": (EIGHT, [call("x"), call("y"), call("z")], ["xyz"]),
    "one by one": (ONE_BY_ONE, [call("x"), call("y")], ["x", "y"]),
    "up to so many rows": (BatchRules(4), [call(n, 2) for n in "vwxyz"], ["vw", "xy", "z"]),
    "one too large for the rest ends the batch": (BatchRules(4), [call("w", 2), call("x", 3), call("y")], ["w", "xy"]),
    "more rows than a batch may have": (BatchRules(4), [call("x"), call("y", 100), call("z")], ["x", "y", "z"]),
    "exactly full": (BatchRules(3), [call("x", 3), call("y")], ["x", "y"]),
    "buckets apart": (EIGHT, [call("w", 1, A), call("x", 1, B), call("y", 1, A), call("z", 1, B)], ["wy", "xz"]),
    "alone is alone": (EIGHT, [call("x", 1, None), call("y", 1, None), call("z")], ["x", "y", "z"]),
    "alone between others": (EIGHT, [call("x"), call("y", 1, None), call("z")], ["xz", "y"]),
    "priority first": (BatchRules(2), [call("x"), call("y", priority=9), call("z", priority=1)], ["zx", "y"]),
    "0 is the default": (ONE_BY_ONE, [call("x", priority=5), call("y"), call("z", priority=4)], ["y", "z", "x"]),
    "a sequence once in a batch": (EIGHT, [call("x", key=1), call("y", key=1), call("z", key=2)], ["xz", "y"]),
    "a sequence in order whatever the priority": (
        EIGHT,
        [call("x", key=1, priority=9), call("y", key=1, priority=1), call("z", key=1, priority=1)],
        ["x", "y", "z"],
    ),
    "a sequence in order over buckets": (
        EIGHT,
        [call("w", 1, A), call("x", 1, B, key=1), call("y", 1, A, key=1), call("z", 1, A)],
        ["wz", "x", "y"],
    ),
    "bytes bound a batch": (EIGHT, [call(n, nbytes=limits.batch_bytes_max // 2) for n in "xyz"], ["xy", "z"]),
    "cut to the largest preferred size": (BatchRules(8, 0, (2, 4)), [call(n) for n in "uvwxyz"], ["uvwx", "yz"]),
    "no preferred size is met": (BatchRules(8, 0, (4,)), [call(n, 3) for n in "xyz"], ["xy", "z"]),
}


@pytest.mark.parametrize(("rules", "calls", "runs"), CASES.values(), ids=CASES)
def test_runs(rules, calls, runs):
    assert drained(queue_of(rules, *calls)) == runs


WAITING = BatchRules(4, 10 * MS)
PREFERRED = BatchRules(8, 10 * MS, (3,))

WAITS = {
    "the oldest has time": (WAITING, [call("x", at=0), call("y", at=5 * MS)], 6 * MS, "", 10 * MS),
    "the oldest has waited long enough": (WAITING, [call("x"), call("y", at=5 * MS)], 10 * MS, "xy", 0),
    "full": (WAITING, [call(n) for n in "wxyz"], 0, "wxyz", 0),
    "full without the next one": (WAITING, [call("x", 3), call("y", 2)], 0, "x", 0),
    "alone waits for nobody": (WAITING, [call("x", 1, None)], 0, "x", 0),
    "a preferred size": (PREFERRED, [call(n) for n in "xyz"], 0, "xyz", 0),
    "past a preferred size": (PREFERRED, [call("x", 2), call("y", 2)], 0, "xy", 0),
    "short of a preferred size": (PREFERRED, [call("x"), call("y")], 0, "", 10 * MS),
    "a deadline shortens the wait": (WAITING, [call("x"), call("y", deadline=6 * MS)], 0, "", 5 * MS),
    "a deadline ends it": (WAITING, [call("x"), call("y", deadline=6 * MS)], 5 * MS, "xy", 0),
    "a bucket that is ready runs meanwhile": (
        WAITING,
        [call("x", 1, A), *(call(n, 1, B) for n in "klmn")],
        0,
        "klmn",
        0,
    ),
    "the bucket whose time is up": (WAITING, [call("x", 1, A, at=5 * MS), call("y", 1, B)], 10 * MS, "y", 0),
    "the earliest end of several": (WAITING, [call("x", 1, A, at=5 * MS), call("y", 1, B)], 9 * MS, "", 10 * MS),
}


@pytest.mark.parametrize(("rules", "calls", "now", "run", "until"), WAITS.values(), ids=WAITS)
def test_waits(rules, calls, now, run, until):
    chosen, told = choose(calls, rules, now, run_ns=1 * MS)
    assert (names(chosen), told) == (run, until)


def test_a_wait_ends_in_the_queue_too():
    queue = queue_of(WAITING, call("x"), call("y", at=2 * MS))
    plan = queue.next(3 * MS)
    assert (plan.run, plan.wait_until_ns, len(queue)) == ([], 10 * MS, 2)
    assert names(queue.next(10 * MS).run) == "xy"
    assert not queue


def test_expired_and_cancelled_calls_end_without_a_run():
    late, gone, good = call("l", deadline=5), call("g"), call("x", deadline=50)
    queue = queue_of(EIGHT, late, gone, good)
    gone.reply.cancelled = True
    plan = queue.next(5)
    assert (names(plan.expired), names(plan.cancelled), names(plan.run)) == ("l", "g", "x")
    assert not queue


def test_a_deadline_behind_others_is_seen_in_time():
    queue = queue_of(ONE_BY_ONE, call("x"), call("y"), call("z", deadline=5))
    plan = queue.next(5)
    assert (names(plan.expired), names(plan.run)) == ("z", "x")
    assert names(queue.next(6).run) == "y"


def test_cancelled_calls_make_room():
    calls = [call(n) for n in "wxyz"]
    queue = queue_of(ONE_BY_ONE, *calls)
    assert not queue.drop_cancelled()
    calls[1].reply.cancelled = calls[2].reply.cancelled = True
    assert queue.drop_cancelled()
    assert len(queue) == 2
    plan = queue.next(0)
    assert (names(plan.cancelled), names(plan.run)) == ("xy", "w")
    assert names(queue.next(0).cancelled) == ""


def test_calls_put_back_run_alone_in_their_places():
    queue = queue_of(BatchRules(2), call("x", key=1), call("y"), call("z", key=1))
    batch = queue.next(0).run
    assert names(batch) == "xy"
    queue.add(call("urgent", priority=1))
    queue.put_back(batch)
    assert drained(queue) == ["urgentz"[:6], "x", "y", "z"]


def test_nobody_starves():
    """A call of the lowest priority comes first once in so many runs, however many urgent ones arrive."""
    queue = queue_of(ONE_BY_ONE, call("old", priority=2**64 - 1), call("older", priority=2**64 - 2))
    waited = 0
    while True:
        queue.add(call(".", priority=1))
        run = queue.next(0).run
        if names(run) != ".":
            break
        waited += 1
    assert names(run) == "old"  # which came first, though it is the less urgent one
    assert waited == limits.overtaken_runs_max


def test_only_so_many_are_looked_through():
    queue = queue_of(
        BatchRules(10**6), *(call("x", 1, A if n % 2 else B) for n in range(limits.batch_look_ahead_max * 2))
    )
    assert len(queue.next(0).run) == limits.batch_look_ahead_max // 2


# --- properties ------------------------------------------------------------------------------------------------------

RULES = st.builds(
    BatchRules,
    rows_max=st.integers(1, 6),
    wait_ns=st.sampled_from([0, 0, 5]),
    preferred=st.sampled_from([(), (2,), (1, 3)]),
)
CALLS = st.builds(
    call,
    rows=st.integers(1, 8),
    bucket=st.sampled_from([None, A, B, ()]),
    deadline=st.sampled_from([0, 0, 0, 3, 7, 20]),
    priority=st.integers(0, 6),
    key=st.sampled_from([None, None, 1, 2]),
)
# A call arrives, one of those that wait is given up, a step is taken, a step is taken and its batch fails.
EVENTS = st.lists(st.one_of(CALLS, st.integers(0, 9), st.sampled_from(["step", "step", "fail"])), max_size=60)


class Run:
    """Drives a queue through events and checks what must hold at every step."""

    def __init__(self, rules):
        self.queue = Queue(rules)
        self.rules = rules
        self.now = 0
        self.added = []
        self.waiting = []
        self.ended = []

    def add(self, made):
        made.reply.arrived_ns = self.now
        made.deadline_ns = made.deadline_ns and made.deadline_ns + self.now
        self.added.append(made)
        self.waiting.append(made)
        self.queue.add(made)

    def step(self, fails):
        self.now += 1
        before = list(self.waiting)
        plan = self.queue.next(self.now, run_ns=1)
        out = [*plan.run, *plan.expired, *plan.cancelled]
        assert len(set(out)) == len(out)
        assert set(out) <= set(before)
        assert all(0 < c.deadline_ns <= self.now for c in plan.expired)
        assert all(c.reply.cancelled for c in plan.cancelled)
        assert not any(c.reply.cancelled or 0 < c.deadline_ns <= self.now for c in plan.run)
        self.check_run(plan.run, [c for c in before if c not in plan.expired and c not in plan.cancelled])
        self.waiting = [c for c in before if c not in out]
        assert len(self.queue) == len(self.waiting)
        if not plan.run and self.waiting:
            assert self.rules.wait_ns
            assert plan.wait_until_ns > self.now
        if fails and len(plan.run) > 1:
            self.queue.put_back(plan.run)
            self.waiting = [c for c in self.added if c in self.waiting or c in plan.run]
            out = [c for c in out if c not in plan.run]
        self.ended += out
        return plan

    def check_run(self, run, candidates):
        if len(run) > 1:
            assert sum(c.rows for c in run) <= self.rules.rows_max
            assert len({c.bucket for c in run}) == 1
            assert run[0].bucket is not None
        keys = [c.ticket.key for c in run if c.ticket]
        assert len(keys) == len(set(keys))
        for chosen in run:
            for other in candidates:
                if other in run or other.number > chosen.number:
                    continue
                same_sequence = chosen.ticket and other.ticket and chosen.ticket.key == other.ticket.key
                assert not same_sequence, "a sequence out of order"
                barred = other.ticket and any(
                    c.ticket and c.ticket.key == other.ticket.key and c.number < other.number for c in candidates
                )
                same_line = chosen.bucket is not None and chosen.bucket == other.bucket and not barred
                assert not (same_line and chosen.priority == other.priority), "a line out of order"


@given(RULES, EVENTS)
def test_whatever_happens(rules, events):
    run = Run(rules)
    for event in events:
        if isinstance(event, Waiting):
            # Examples are drawn again while they are made smaller: each run needs calls of its own.
            ticket = event.ticket.key if event.ticket else None
            run.add(call("", event.rows, event.bucket, deadline=event.deadline_ns, priority=event.priority, key=ticket))
        elif isinstance(event, int):
            if event < len(run.waiting):
                run.waiting[event].reply.cancelled = True
        else:
            run.step(event == "fail")
    steps = 0
    while run.queue:
        run.step(fails=False)
        steps += 1
        assert steps <= (len(run.added) + 1) * (rules.wait_ns + 2), "the queue never empties"
    assert len(run.ended) == len(run.added)  # nothing lost, nothing twice
    assert set(run.ended) == set(run.added)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=80), st.integers(1, 4))
def test_everybody_s_turn_comes(priorities, arriving):
    """Urgent calls keep coming; a call with k older ones before it still waits (k + 1) times the bound at most."""
    queue = queue_of(ONE_BY_ONE, *(call(chr(256 + n), priority=p) for n, p in enumerate(priorities)))
    bound = limits.overtaken_runs_max + 1
    for step in range(1, bound * len(priorities) + 1):
        for _ in range(arriving):
            queue.add(call(".", priority=1))
        queue.next(0)
        left = [ord(c.outputs) - 256 for c in queue.calls if c.outputs != "."]
        assert not left or min(left) >= step // bound - 1
    assert not [c for c in queue.calls if c.outputs != "."]


def test_a_call_does_not_pass_its_sequence_when_the_last_one_of_it_is_gone() -> None:
    """The last call of a sequence expires while an earlier one waits: a more urgent one still comes after that."""
    queue = Queue(EIGHT)
    first, gone, urgent = (
        call("first", priority=9, key="s"),
        call("gone", priority=9, key="s"),
        call("urgent", priority=1, key="s"),
    )
    queue.add(first)
    queue.add(gone)
    gone.reply.cancelled = True
    queue.drop_cancelled()
    queue.add(urgent)
    assert [c.outputs for c in queue.calls] == ["first", "urgent"]
