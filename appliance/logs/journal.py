"""Records as entries of systemd's journal, with their fields (systemd.journal-fields(7))."""

import logging
import os
import re
import stat
import sys
import time
from collections.abc import Mapping

from appliance import limits
from appliance.logs import journal_socket
from appliance.logs.formats import facts_of, message_of, traceback_of

IDENTIFIER = "inference-appliance"

# syslog(3)'s numbers.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
# Names of ours that would be too general among all that a machine logs.
_NAMES = {
    "event": "APPLIANCE_EVENT",
    "process": "APPLIANCE_PROCESS",
    "part": "APPLIANCE_PART",
    "more": "APPLIANCE_MORE",
}
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def listens() -> bool:
    """Whether our standard error is the journal: $JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino)) and not stat.S_ISCHR(found.st_mode)


def fields_of(record: logging.LogRecord, role: str, always: Mapping[str, str]) -> dict[str, str]:
    """All fields of a record's entry. A traceback follows the message: `journalctl` shows nothing else by default."""
    message, traceback = message_of(record), traceback_of(record)
    fields = {
        "MESSAGE": f"{message}\n{traceback}" if traceback else message,
        "PRIORITY": str(_PRIORITIES.get(record.levelno, 6)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "APPLIANCE_PROCESS": role,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
    }
    for key, value in facts_of(record, always).items():
        name = _NAMES.get(key, key.upper())
        if _NAME.fullmatch(name) and name not in fields:
            fields[name] = str(value)
    return fields


class JournalHandler(logging.Handler):
    """Sends each record as one entry; to standard error, which is the journal as well, where that doesn't work."""

    def __init__(self, role: str, always: Mapping[str, str], send: journal_socket.Send) -> None:
        super().__init__()
        self._role = role
        self._always = always
        self._send = send
        self._rest_until = 0.0

    def close(self) -> None:
        if isinstance(self._send, journal_socket.NativeSocket):
            self._send.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        fields = fields_of(record, self._role, self._always)
        now = time.monotonic()
        if now >= self._rest_until:
            try:
                self._send(fields)
            except OSError:
                self._rest_until = now + limits.journal_rest_ms / 1000
            else:
                return
        try:
            # The number in front is the priority (sd-daemon(3)).
            lines = fields["MESSAGE"].split("\n")
            sys.stderr.write("".join(f"<{fields['PRIORITY']}>{self._role}: {line}\n" for line in lines))
            sys.stderr.flush()
        except OSError:
            self.handleError(record)
