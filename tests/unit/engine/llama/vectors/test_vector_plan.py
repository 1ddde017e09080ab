"""Which texts go into a batch: a table, and what must hold for any queue."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.llama.vectors.plan import Room, plan_batch


class Job:
    def __init__(self, *pending: int, alone: bool = False) -> None:
        self.pending = list(pending)
        self.alone = alone


ROOM = Room(sequences=4, tokens=10)


@pytest.mark.parametrize(
    ("jobs", "picks"),
    [
        ([], []),
        ([Job()], []),
        ([Job(1)], [0]),
        ([Job(1, 1, 1, 1, 1)], [0, 0, 0, 0]),
        ([Job(1, 1, 1, 1), Job(1)], [0, 1, 0, 0]),
        ([Job(1, 1, 1), Job(), Job(1, 1)], [0, 2, 0, 2]),
        ([Job(1)] * 6, [0, 1, 2, 3]),
        # A text over the budget is computed by itself, and one that does not fit holds up nobody behind it.
        ([Job(50), Job(1)], [0]),
        ([Job(1), Job(50), Job(1)], [0, 2]),
        ([Job(6, 6), Job(4, 1)], [0, 1]),
        ([Job(10), Job(1)], [0]),
        ([Job(6, 1), Job(5), Job(4)], [0, 2]),
        # A job out of order would answer the wrong texts: what does not fit keeps the rest of its job back.
        ([Job(6), Job(5, 1), Job(1)], [0, 2]),
        ([Job(1, 1, alone=True), Job(1)], [0, 0]),
        ([Job(1, 1), Job(1, alone=True), Job(1)], [0, 2, 0]),
        ([Job(alone=True), Job(1)], [1]),
    ],
)  # fmt: skip
def test_picks(jobs, picks):
    assert plan_batch(jobs, ROOM) == picks


queues = st.lists(
    st.builds(
        lambda pending, alone: Job(*pending, alone=alone), st.lists(st.integers(1, 14), max_size=9), st.booleans()
    ),
    max_size=8,
)


@given(queues)
def test_a_batch_keeps_its_bounds(jobs):
    picks = plan_batch(jobs, ROOM)
    assert len(picks) <= ROOM.sequences
    lengths = [jobs[pick].pending[picks[:place].count(pick)] for place, pick in enumerate(picks)]
    assert sum(lengths) <= max(ROOM.tokens, *lengths[:1], 0)
    if any(jobs[pick].alone for pick in picks):
        assert len(set(picks)) == 1
    assert bool(picks) == any(job.pending for job in jobs)


@given(queues)
def test_everybody_is_served_in_as_many_batches_as_stand_before_him(jobs):
    queue = [job for job in jobs if job.pending]
    # Batches until the job must have been served, by its place when it came or was served last.
    patience = {job: place + 1 for place, job in enumerate(queue)}
    while queue:
        picks = plan_batch(queue, ROOM)
        served = list(dict.fromkeys(queue[pick] for pick in picks))
        for pick in picks:
            queue[pick].pending.pop(0)
        for job in queue:
            patience[job] -= 1
            assert job in served or patience[job] > 0
        queue = [job for job in queue if job not in served] + [job for job in served if job.pending]
        patience |= {job: place + 1 for place, job in enumerate(queue) if job in served}
