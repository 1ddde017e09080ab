"""A record as text for a terminal, and as fields for everything that reads logs by program."""

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from appliance import limits
from appliance.logs.plain import one_line


def message_of(record: logging.LogRecord) -> str:
    """The message on one line, bounded, whatever clients' names or foreign libraries have put into it."""
    return one_line(record.getMessage(), limits.log_message_chars_max)


def traceback_of(record: logging.LogRecord) -> str:
    """The traceback of a record, "" without one; its lines are indented, so that none looks like a record."""
    if not record.exc_info:
        return ""
    text = _PLAIN.formatException(record.exc_info)
    if len(text) > limits.log_traceback_chars_max:
        text = "...\n" + text[-limits.log_traceback_chars_max :]
    return "\n".join("  " + one_line(line, limits.log_message_chars_max) for line in text.split("\n"))


_PLAIN = logging.Formatter()


def facts_of(record: logging.LogRecord, always: Mapping[str, str]) -> dict[str, str | int]:
    """What the record and its process say of themselves, by lower-case names; nothing that is empty."""
    facts = {**always, **getattr(record, "facts", {})}
    return {key: _value(value) for key, value in facts.items() if value not in ("", None)}


def _value(value: Any) -> str | int:
    return value if type(value) is int else one_line(str(value), limits.log_field_chars_max)


class TextFormatter(logging.Formatter):
    """``10:31:07 warning  engine smollm2:1.0.0  text``: what fits a terminal and can be read at 3 a.m."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname.lower():<7} {self._role}: {message_of(record)}"
        traceback = traceback_of(record)
        return f"{line}\n{traceback}" if traceback else line


class JsonFormatter(logging.Formatter):
    """The same as fields, for log collectors; with what the record's ``facts`` name besides."""

    def __init__(self, role: str, always: Mapping[str, str]) -> None:
        super().__init__()
        self._role = role
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._role,
            "message": message_of(record),
            **facts_of(record, self._always),
        }
        if traceback := traceback_of(record):
            fields["exception"] = traceback
        return json.dumps(fields, ensure_ascii=False)
