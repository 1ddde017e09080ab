"""What one row of the table of events is."""

from typing import Any, NamedTuple


class Kind(NamedTuple):
    """One kind of event that an operator acts on, or looks for.

    ``name`` and ``message_id`` (128 bits, lower-case hex, made once by `systemd-id128 new`) never change: scripts and
    alarms match on them. ``subject``, ``means`` and ``do`` are for people (`journalctl -x`): what happened, what it
    means, what to do. In them @FIELD@ stands for a field of the entry.
    """

    name: str
    message_id: str
    subject: str
    means: str
    do: str

    def of(self, model: str = "", version: str = "", error_reason: str = "", **facts: str | int) -> dict[str, Any]:
        """For a log call's ``extra``: the record is of this kind, with these fields; empty ones are left out."""
        known = {"model": model, "version": version, "error_reason": error_reason, **facts}
        named = {"event": self.name, "message_id": self.message_id}
        return {"facts": named | {key: value for key, value in known.items() if value != ""}}
