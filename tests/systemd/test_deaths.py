"""kill -9 of each kind of process, under load: clients that try again get answers again, within a deadline."""

import itertools

import numpy as np
import pytest
from installed_box import Box
from installed_disk import MODELS
from traffic import Traffic, fp32

# For so long there may be no answer. What dies is started again within a second; the unit waits 1 s (RestartSec=) before
# it starts, and loads all models. With room for a busy machine of two cores.
PAUSE_S_MAX = {"engine": 5.0, "front-end 0": 5.0, "sync": 2.0, "supervisor": 15.0}


def pid_of(box: Box, kind: str) -> int:
    return box.model("steady").pid if kind == "engine" else box.process_of(kind)


@pytest.mark.parametrize("kind", PAUSE_S_MAX)
def test_answers_again(shared_box: Box, kind: str) -> None:
    box = shared_box
    box.eventually(lambda: box.serves(*MODELS))
    victim, service = pid_of(box, kind), box.pid
    rows = fp32(np.zeros((1, 30)), "features")
    with (
        Traffic(box.address, "steady") as steady,
        Traffic(box.address, "breast-cancer", inputs=rows, output="probabilities") as bystander,
    ):
        box.kill(victim)
        box.eventually(lambda: box.serves(*MODELS) and pid_of(box, kind) not in (0, victim))
        for one in (steady, bystander):
            one.more(8)
    pause = max(longest_pause(steady), longest_pause(bystander))
    print(f"{kind}: {pause:.2f} s without an answer; {len(steady.errors)} calls failed")
    assert pause < PAUSE_S_MAX[kind], steady.errors[-2:]
    assert {error.status for error in steady.errors} <= {"StatusCode.UNAVAILABLE"}
    assert (box.pid == service) == (kind != "supervisor")
    if kind in ("engine", "sync"):
        assert not bystander.errors
    if kind == "sync":
        assert not steady.errors


def longest_pause(traffic: Traffic) -> float:
    """Seconds without an answer."""
    ends = sorted(answer.ended for answer in traffic.answers)
    return max(later - earlier for earlier, later in itertools.pairwise(ends))
