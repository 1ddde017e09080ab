"""The one import of llama.cpp's C interface, and its log, led into ours.

llama.cpp writes some 300 lines about each load: its INFO is our DEBUG, its warnings and errors keep their level.
"""

import logging
import os
from typing import Any

import llama_cpp.llama_cpp as C  # noqa: N812 - it is the C interface, and every line below says so

from appliance.engine.llama.backend import load_processor_code
from appliance.errors import InternalError

__all__ = ["C", "start_backend"]

_log = logging.getLogger("appliance.engine.llama.native")
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5


class _LogSink:
    """Puts lines together out of the parts that the library prints."""

    def __init__(self) -> None:
        self._level = logging.DEBUG
        self._line = ""

    def __call__(self, level: int, text: bytes | None, _data: Any) -> None:
        if level != _CONTINUED:
            self._level, self._line = _LEVELS.get(level, logging.DEBUG), ""
        if not _log.isEnabledFor(self._level):
            return
        self._line += (text or b"").decode(errors="replace")
        if self._line.endswith("\n"):
            if self._line.strip():
                _log.log(self._level, "%s", self._line.strip())
            self._line = ""


# The library keeps the pointer for the life of the process: a collected callback is a segmentation fault.
_log_callback = C.llama_log_callback(_LogSink())
_started = False


def start_backend() -> None:
    """Starts the library, once a process."""
    global _started
    if _started:
        return
    # A failed assertion of ggml calls gdb for a backtrace, where there is one: seconds until the engine is really dead.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    C.llama_log_set(_log_callback, None)
    load_processor_code()
    C.llama_backend_init()
    _started = True


def expect(pointer: Any, what: str) -> Any:
    """``pointer`` when there is one; else InternalError."""
    if not pointer:
        raise InternalError(f"llama.cpp gave no {what}")
    return pointer
