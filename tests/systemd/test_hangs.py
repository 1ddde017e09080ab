"""A process that hangs (SIGSTOP): the supervisor is restarted by systemd, the others are replaced by the supervisor."""

import time
from collections.abc import Iterator

import pytest
from installed_box import Box
from installed_disk import MODELS, Installed
from traffic import Traffic

from appliance import limits

_WATCHDOG_S = 2
_STEP_S = 2


@pytest.fixture(scope="module")
def box(installed: Installed) -> Iterator[Box]:
    with installed.box() as box:
        yield box


def test_a_supervisor_that_hangs_is_restarted_by_the_watchdog(box: Box) -> None:
    box.drop_in("watchdog", f"[Service]\nWatchdogSec={_WATCHDOG_S}\n")
    box.systemctl("restart")
    hung = box.pid
    box.kill(hung, "STOP")
    began = time.monotonic()
    box.eventually(lambda: box.pid not in (0, hung) and box.serves(*MODELS), 30)
    took = time.monotonic() - began
    assert took > _WATCHDOG_S - 1  # fed once a second
    journal = box.machine.journal("--unit", "inference-appliance")
    assert "Watchdog timeout" in journal
    assert box.show("NRestarts") == "1"
    box.drop_in("watchdog", "")
    box.machine.run("systemctl", "reset-failed")
    print(f"serving {took:.1f} s after SIGSTOP, with WatchdogSec={_WATCHDOG_S}")


def test_what_else_hangs_is_replaced_alone(box: Box) -> None:
    """All at once, as each takes its time: an engine as long as a step may, the others 20 s. What doesn't hang stays."""
    box.configure("50-step", f"[engines]\nstep_seconds_max = {_STEP_S}\n")
    box.systemctl("restart")
    box.eventually(lambda: box.serves(*MODELS))
    supervisor, bystander, engine = box.pid, box.model("breast-cancer").pid, box.model("steady").pid
    hung = {role: box.process_of(role) for role in ("front-end 0", "sync")}

    box.kill(engine, "STOP")
    box.eventually(lambda: box.model("steady").pid not in (0, engine), _STEP_S + 10)
    box.eventually(lambda: box.serves(*MODELS))

    for pid in hung.values():
        box.kill(pid, "STOP")
    began, silence = time.monotonic(), limits.beat_silence_ms_max / 1000
    box.eventually(lambda: box.serves(*MODELS), silence + 10)
    box.eventually(lambda: all(box.process_of(role) not in (0, pid) for role, pid in hung.items()), silence + 10)
    assert time.monotonic() - began > silence - 2
    assert (box.pid, box.model("breast-cancer").pid) == (supervisor, bystander)
    assert (box.show("NRestarts"), box.active) == ("0", "active")
    with Traffic(box.address, "steady") as traffic:
        traffic.more(4)
    assert not traffic.errors
