"""The table of sequences: every legal and illegal call of one, bounds, expiry, and properties against simple models."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import limits
from appliance.calls import InferCall
from appliance.clock import FakeClock
from appliance.engine.onnx.sequences import Sequences, Ticket
from appliance.engine.onnx.states import RowsOf, State
from appliance.errors import ApplianceError, Code, InternalError, InvalidArgument, ResourceExhausted
from appliance.model_spec import SequenceOptions

F32 = np.dtype(np.float32)
SUM = State("sum", "next_sum", (-1, 2), F32, 0, None)


class Table:
    """A table, its clock, and a model that adds what comes to its state."""

    def __init__(self, states=(SUM,), *, bytes_max=limits.sequence_states_bytes_max, **options):
        self.clock = FakeClock(10**12)
        now = self.clock.monotonic_ns
        self.sequences = Sequences(states, SequenceOptions(**options), now, RowsOf("x", 0), bytes_max=bytes_max)

    def ticket(self, identity=7, start=False, end=False, rows=1, client="a", **feed):
        parameters = {"sequence_id": identity}
        parameters |= {k: v for k, v in (("sequence_start", start), ("sequence_end", end)) if v is not False}
        call = InferCall(parameters=parameters, client=client)
        feed.setdefault("x", np.ones((rows, 3), F32))
        return self.sequences.ticket(call, self.clock.monotonic_ns(), feed)

    def run(self, ticket: Ticket, plus=1.0):
        """What the model saw."""
        before = ticket.states()["sum"]
        ticket.keep({"next_sum": before + F32.type(plus)})
        return float(before[0, 0]) if before.size else 0.0

    def call(self, *args, plus=1.0, **kwargs):
        return self.run(self.ticket(*args, **kwargs), plus)


def refused(reason, table, *args, **kwargs):
    with pytest.raises(ApplianceError) as caught:
        table.ticket(*args, **kwargs)
    assert caught.value.reason == reason
    return caught.value


def test_a_sequence_from_start_to_end():
    table = Table()
    assert [table.call(start=True), table.call(), table.call(end=True)] == [0, 1, 2]
    assert (len(table.sequences), table.sequences.nbytes) == (0, 0)
    error = refused("SEQUENCE_UNKNOWN", table)
    assert error.code is Code.INVALID_ARGUMENT
    assert "no sequence 7" in error.message
    assert "sequence_start" in error.message


def test_a_sequence_of_one_call():
    table = Table()
    assert table.call(start=True, end=True) == 0
    assert (len(table.sequences), table.sequences.nbytes) == (0, 0)


@pytest.mark.parametrize("identity", [7, "line 4", -1, 2**63 - 1, "7"])
def test_ids_are_whole_numbers_or_strings(identity):
    table = Table()
    assert [table.call(identity, start=True), table.call(identity)] == [0, 1]


def test_ids_of_two_kinds_and_of_two_clients_are_different_sequences():
    table = Table()
    table.call(7, start=True)
    table.call("7", start=True, plus=10)
    table.call(7, start=True, client="b", plus=100)
    assert [table.call(7), table.call("7"), table.call(7, client="b")] == [1, 10, 100]
    refused("SEQUENCE_UNKNOWN", table, 7, client="c")
    assert len(table.sequences) == 3


BAD = [
    ({"sequence_id": True}, "must be an integer or a string"),
    ({"sequence_id": 1.0}, "must be an integer or a string"),
    ({"sequence_id": 7, "sequence_start": 1}, "must be bools"),
    ({"sequence_id": 7, "sequence_end": "yes"}, "must be bools"),
    ({"sequence_start": True}, "'sequence_start' needs a sequence_id"),
    ({"sequence_id": 0, "sequence_end": True}, "'sequence_end' needs a sequence_id"),
    ({"sequence_id": "", "sequence_start": True}, "neither 0 nor empty"),
    ({"sequence_id": "x" * 257, "sequence_start": True}, "257 characters, at most 256"),
]


@pytest.mark.parametrize(("parameters", "says"), BAD)
@pytest.mark.parametrize("states", [(SUM,), ()])
def test_bad_parameters(parameters, says, states):
    table = Table(states)
    with pytest.raises(InvalidArgument, match=says) as caught:
        table.sequences.ticket(InferCall(parameters=parameters), 0, {})
    assert caught.value.reason == "SEQUENCE"
    assert len(table.sequences) == 0


@pytest.mark.parametrize("parameters", [{}, {"station": "west"}, {"sequence_id": 0}, {"sequence_id": ""}])
def test_calls_without_a_sequence(parameters):
    table = Table()
    call = InferCall(parameters=parameters)
    assert table.sequences.ticket(call, 0, {"x": np.ones(1), "sum": np.zeros((1, 2))}) is None
    with pytest.raises(InvalidArgument, match="lacks the input 'sum': give it, or a sequence_id") as caught:
        table.sequences.ticket(call, 0, {"x": np.ones(1)})
    assert caught.value.reason == "TENSOR_MISSING"
    assert Table(()).sequences.ticket(call, 0, {}) is None


def test_a_model_without_states_refuses_a_sequence():
    """A client that counts on it would get wrong answers."""
    assert "keeps nothing from one call to the next" in refused("SEQUENCE", Table(()), start=True).message
    assert not Table(()).sequences


def test_state_and_sequence_id_together_are_refused():
    assert "'sum' is kept" in refused("SEQUENCE", Table(), start=True, sum=np.zeros((1, 2), F32)).message


def test_a_sequence_keeps_its_number_of_rows():
    table = Table()
    table.call(start=True, rows=2)
    assert "has 2 rows, this call 3" in refused("SEQUENCE", table, rows=3).message
    assert table.call(rows=2) == 1
    assert table.call(start=True, rows=3) == 0


def test_no_rows_are_legal():
    table = Table()
    assert [table.call(start=True, rows=0), table.call(rows=0)] == [0, 0]


def test_a_start_begins_anew_and_calls_before_it_end_on_the_old_one():
    table = Table()
    table.call(start=True)
    old, start, new = table.ticket(), table.ticket(start=True), table.ticket()
    assert [table.run(old), table.run(start, plus=5), table.run(new)] == [1, 0, 5]
    assert table.sequences.nbytes == 8


def test_calls_that_wait_see_what_the_one_before_left():
    table = Table()
    tickets = [table.ticket(start=n == 0) for n in range(5)]
    assert [table.run(ticket) for ticket in tickets] == [0, 1, 2, 3, 4]


def test_a_call_that_fails_leaves_the_state_as_it_was():
    table = Table()
    table.call(start=True)
    failed = table.ticket()
    assert failed.states()["sum"][0, 0] == 1
    failed.drop()
    failed.drop()
    assert table.call() == 1


def test_a_failed_start_leaves_no_sequence_and_those_behind_it_are_told():
    table = Table()
    table.call(start=True)
    start, behind = table.ticket(start=True), table.ticket()
    start.drop()
    with pytest.raises(InvalidArgument, match="its start failed") as caught:
        behind.states()
    assert caught.value.reason == "SEQUENCE_UNKNOWN"
    behind.drop()
    refused("SEQUENCE_UNKNOWN", table)
    assert (len(table.sequences), table.sequences.nbytes) == (0, 0)


def test_after_the_call_that_ends_it_nothing_goes_on_until_that_fails():
    table = Table()
    table.call(start=True)
    last = table.ticket(end=True)
    assert "ends it" in refused("SEQUENCE_UNKNOWN", table).message
    last.drop()
    assert table.call() == 1


def test_an_end_does_not_end_the_sequence_that_was_started_behind_it():
    table = Table()
    table.call(start=True)
    last, start = table.ticket(end=True), table.ticket(start=True)
    table.run(last)
    table.run(start, plus=3)
    assert table.call() == 3


def test_states_are_copied_out_of_a_batch():
    table = Table()
    ticket = table.ticket(start=True)
    batch = np.zeros((64, 2), F32)
    ticket.keep({"next_sum": batch[3:4]})
    batch[:] = 9
    again = table.ticket()
    assert again.states()["sum"].base is None
    assert again.states()["sum"].tolist() == [[0, 0]]


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (2,), ()])
def test_a_state_that_the_next_call_could_not_take(shape):
    table = Table()
    table.call(start=True)
    ticket = table.ticket()
    with pytest.raises(InternalError, match="'next_sum' of shape") as caught:
        ticket.keep({"next_sum": np.zeros(shape, F32)})
    assert caught.value.reason == "SEQUENCE_STATE"
    assert table.call() == 1


def test_idle_sequences_are_forgotten():
    table = Table(idle_seconds_max=60)
    table.call(1, start=True)
    table.clock.advance(40)
    table.call(2, start=True)
    table.clock.advance(20)
    table.call(1)  # in time
    table.clock.advance(41)
    table.sequences.sweep(table.clock.monotonic_ns())
    assert (len(table.sequences), table.sequences.expired) == (1, 1)
    assert "idle for more than 60 s" in refused("SEQUENCE_UNKNOWN", table, 2).message
    assert table.call(1) == 2


def test_a_sequence_whose_call_takes_long_is_not_idle():
    table = Table(idle_seconds_max=1)
    ticket = table.ticket(start=True)
    table.clock.advance(5)
    table.sequences.sweep(table.clock.monotonic_ns())
    table.run(ticket)
    table.clock.advance(0.9)
    assert table.call() == 1
    assert table.sequences.expired == 0


def test_the_bound_and_what_makes_room():
    table = Table(sequences_max=2, idle_seconds_max=10)
    table.call(1, start=True)
    table.clock.advance(6)
    table.call(2, start=True)
    error = refused("SEQUENCES_MAX", table, 3, start=True)
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "2 sequences live" in error.message
    assert "after 10 s" in error.message
    assert table.call(2, start=True) == 0  # the same one anew needs no room
    table.clock.advance(5)
    assert table.call(3, start=True) == 0  # the first one has expired
    assert table.sequences.expired == 1
    table.call(3, end=True)
    assert table.call(4, start=True) == 0


def test_memory_is_bounded_and_given_back():
    table = Table(bytes_max=80)
    table.call(1, start=True, rows=5)
    table.call(2, start=True, rows=5)
    error = refused("SEQUENCE_MEMORY", table, 3, start=True)
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert table.call(2, start=True, rows=5) == 0  # its own room
    table.call(1, rows=5, end=True)
    table.call(3, start=True)
    assert table.sequences.nbytes == 48


def test_rows_beyond_any_memory_are_refused_before_they_are_made():
    rows = np.broadcast_to(np.zeros(1, F32), (2**40, 1))
    refused("SEQUENCE_MEMORY", Table(), start=True, x=rows)


def test_a_state_that_grows_without_end_is_stopped():
    growing = State("sum", "next_sum", (-1, -1), F32, 0, np.zeros((1, 1), F32))
    table = Table((growing,), bytes_max=4096)
    assert not table.sequences.batchable
    table.ticket(start=True).keep({"next_sum": np.zeros((1, 1), F32)})
    for length in (256, 512, 1024):
        table.ticket().keep({"next_sum": np.zeros((1, length), F32)})
        assert table.sequences.nbytes == 4 * length
    ticket = table.ticket()
    with pytest.raises(ResourceExhausted) as caught:
        ticket.keep({"next_sum": np.zeros((1, 1025), F32)})
    assert caught.value.reason == "SEQUENCE_MEMORY"
    last = table.ticket(end=True)
    assert last.states()["sum"].shape == (1, 1024)
    last.keep({"next_sum": np.zeros((1, 8), F32)})
    assert table.sequences.nbytes == 0


def test_ten_thousand_sequences():
    """Each found again, all forgotten, and no call looks at more than it must."""
    table = Table(sequences_max=10_000, idle_seconds_max=60)
    for number in range(1, 10_001):
        table.call(number, start=True, plus=number)
    refused("SEQUENCES_MAX", table, 10_001, start=True)
    assert table.sequences.nbytes == 80_000
    table.clock.advance(59)
    assert all(table.call(number) == number for number in range(1, 10_001))
    table.clock.advance(61)
    table.sequences.sweep(table.clock.monotonic_ns())
    assert (len(table.sequences), table.sequences.nbytes, table.sequences.expired) == (0, 0, 10_000)


# --- properties ------------------------------------------------------------------------------------------------------

CALLS = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from([1, 2, "1", "x"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 2),
    st.sampled_from(["run", "run", "run", "fail"]),
    st.sampled_from([0, 0, 3, 11]),
)


@settings(deadline=None)
@given(st.lists(CALLS, max_size=40))
def test_one_call_at_a_time_is_a_dictionary(calls):
    """Against a dictionary of (value, rows, last use): answers, refusals, number, bytes and expiry."""
    table = Table(sequences_max=3, idle_seconds_max=10)
    simple, expired = {}, 0
    for client, identity, start, end, rows, outcome, wait in calls:
        table.clock.advance(wait)
        now = table.clock.monotonic_ns()
        old = [k for k, v in simple.items() if now - v[2] > 10e9]
        expired += len(old)
        for k in old:
            del simple[k]
        key = (client, identity)
        if start and key not in simple and len(simple) >= 3:
            refused("SEQUENCES_MAX", table, identity, start, end, rows, client)
        elif not start and key not in simple:
            refused("SEQUENCE_UNKNOWN", table, identity, start, end, rows, client)
        elif not start and simple[key][1] != rows:
            refused("SEQUENCE", table, identity, start, end, rows, client)
        else:
            ticket = table.ticket(identity, start, end, rows, client)
            value = 0 if start else simple[key][0]
            if outcome == "run":
                assert table.run(ticket) == value
                simple[key] = (value + 1, rows, now)
            else:
                ticket.drop()
                if not start:
                    simple[key] = (value, rows, now)
            if key in simple and (end if outcome == "run" else start):
                del simple[key]
        assert len(table.sequences) == len(simple)
        assert table.sequences.nbytes == sum(8 * v[1] for v in simple.values())
        assert table.sequences.expired == expired


EVENTS = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from([1, 2]), st.booleans(), st.booleans()),
    st.tuples(st.just("run"), st.integers(0, 9)),
    st.tuples(st.just("drop"), st.integers(0, 9)),
)


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=50))
def test_waiting_calls_see_what_a_replay_in_their_order_would_show(events):
    """Calls of one key run in order (the planner sees to that), are dropped in any; each start is a life of its own."""
    table = Table()
    waiting, lives, current = [], [], {}
    for event in events:
        if event[0] == "submit":
            _, identity, start, end = event
            try:
                ticket = table.ticket(identity, start, end)
            except InvalidArgument:
                assert not start
                continue
            if start:
                lives.append([])
                current[identity] = lives[-1]
            record = {"start": start, "end": end, "outcome": None, "saw": None}
            current[identity].append(record)
            waiting.append((ticket, record))
        elif waiting:
            place = event[1] % len(waiting)
            ticket, record = waiting[place]
            if event[0] == "run":
                place = next(i for i, (t, _) in enumerate(waiting) if t.key == ticket.key)
            ticket, record = waiting.pop(place)
            if event[0] == "drop":
                ticket.drop()
                record["outcome"] = "dropped"
                continue
            try:
                record["saw"] = table.run(ticket)
                record["outcome"] = "ran"
            except InvalidArgument:
                ticket.drop()
                record["outcome"] = "told"
    for ticket, record in waiting:
        ticket.drop()
        record["outcome"] = "dropped"
    for life in lives:
        value = None
        for record in life:
            if record["start"] and record["outcome"] == "ran":
                value = 0
            if record["outcome"] == "ran":
                assert record["saw"] == value
                value += 1
            elif record["outcome"] == "told":
                assert value is None
    assert table.sequences.nbytes == 8 * len(table.sequences)
