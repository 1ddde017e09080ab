"""The misbehaviour that both fake engines share: slowness, memory, crashes and hangs on demand."""

import os
import time

from appliance.engine.fake.script import Script
from appliance.errors import InternalError


class Behaviour:
    """Acts by the script. ``before`` is called with each call's text or bytes when a step first works on it."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._answers = 0
        self._calls = 0
        # Written, not only reserved: it must count as resident memory.
        self._memory = b"\1" * (script.allocate_mib * 1024 * 1024)

    def delay(self) -> None:
        """One step's work."""
        if self._script.delay_ms:
            time.sleep(self._script.delay_ms / 1000)

    def before(self, content: bytes) -> None:
        """Crashes, hangs or raises InternalError when ``content`` has the magic text in it, or its turn has come."""
        script = self._script
        if script.crash_on and script.crash_on.encode() in content:
            os.abort()
        if script.crash_after and self._answers >= script.crash_after:
            os.abort()
        while script.hang_on and script.hang_on.encode() in content:
            time.sleep(3600)
        self._calls += 1
        failing = script.fail_every and self._calls % script.fail_every == 0
        if failing or (script.fail_on and script.fail_on.encode() in content):
            raise InternalError("this fake engine was told to fail", reason="FAKE_FAILURE")

    def answered(self) -> None:
        """Counts an answer."""
        self._answers += 1

    def close(self) -> None:
        """Gives the memory back."""
        self._memory = b""
