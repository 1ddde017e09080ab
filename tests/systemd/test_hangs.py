"""A process that hangs (SIGSTOP): the supervisor is restarted by systemd, the others are replaced by the supervisor."""

import time
from collections.abc import Iterator

import pytest
from installed_box import Box
from installed_disk import MODELS, Installed
from traffic import Traffic

from appliance import limits

_WATCHDOG_S = 2


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
    print(f"serving {took:.1f} s after SIGSTOP, with WatchdogSec={_WATCHDOG_S}")


def test_what_else_hangs_is_replaced_alone(box: Box) -> None:
    """All at once, as each takes the same silence. Who calls another model has an answer again with the next front-end."""
    box.systemctl("restart")
    box.eventually(lambda: box.serves(*MODELS))
    supervisor, bystander = box.pid, box.model("breast-cancer").pid
    hung = {role: box.process_of(role) for role in ("front-end 0", "sync")}
    engine = box.model("steady").pid
    for pid in (engine, *hung.values()):
        box.kill(pid, "STOP")
    began = time.monotonic()
    allowed = limits.beat_silence_ms_max / 1000 + 10
    box.eventually(lambda: box.serves(*MODELS), allowed)
    box.eventually(lambda: box.model("steady").pid not in (0, engine), allowed)
    box.eventually(lambda: all(box.process_of(role) not in (0, pid) for role, pid in hung.items()), allowed)
    took = time.monotonic() - began
    assert took > limits.beat_silence_ms_max / 1000 - 2
    assert (box.pid, box.model("breast-cancer").pid) == (supervisor, bystander)
    assert (box.show("NRestarts"), box.active) == ("0", "active")
    with Traffic(box.address, "steady") as traffic:
        traffic.more(4)
    assert not traffic.errors
