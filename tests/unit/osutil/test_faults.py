"""Fault points: inert unless armed, and then exactly where and when they were told."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from appliance.osutil import faults


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def test_an_unarmed_point_does_nothing() -> None:
    faults.arm("")
    faults.fault_point("a")
    faults.arm("b=enospc")
    faults.fault_point("a")


@pytest.mark.parametrize(("action", "number"), [("enospc", errno.ENOSPC), ("eio", errno.EIO)])
def test_an_armed_point_raises(action: str, number: int) -> None:
    faults.arm(f"a={action}")
    for _ in range(2):
        with pytest.raises(OSError, match="fault point a") as caught:
            faults.fault_point("a")
        assert caught.value.errno == number


def test_only_the_nth_pass_fails_where_a_number_is_given() -> None:
    faults.arm("a=eio@2,b=eio")
    faults.fault_point("a")
    with pytest.raises(OSError, match="fault point a"):
        faults.fault_point("a")
    faults.fault_point("a")
    with pytest.raises(OSError, match="fault point b"):
        faults.fault_point("b")


@pytest.mark.parametrize("text", ["a", "a=", "=kill", "a=explode", "a=kill@x", "a=kill@-1"])
def test_what_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="APPLIANCE_FAULTS"):
        faults.arm(text)


def test_the_environment_arms_a_process() -> None:
    code = "from appliance.osutil.faults import fault_point; fault_point('other'); fault_point('here'); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "APPLIANCE_FAULTS": "here=kill"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""
